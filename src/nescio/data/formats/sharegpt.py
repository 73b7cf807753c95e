"""ShareGPT's format: `{"conversations": [{"from", "value"}], "system"?}`."""

from typing import Any

from nescio.core.errors import NescioError
from nescio.data.formats import FORMATS, Format
from nescio.data.formats.turns import plain_turns


def _read(row: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(row["conversations"], list):
        raise NescioError("conversations: must be a list of {'from', 'value'}")
    return {"messages": plain_turns(row, "conversations")}


SHAREGPT = FORMATS.register("sharegpt")(
    Format(
        recognises=lambda row: row.get("conversations") is not None and row.get("messages") is None,
        read=_read,
        turns="conversations",
    )
)
