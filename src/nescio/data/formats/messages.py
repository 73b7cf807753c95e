"""nescio's own format, and OpenAI's for fine-tuning: `{"messages": [{"role", "content"}]}`."""

from typing import Any

from nescio.data.formats import FORMATS, Format
from nescio.data.formats.turns import plain_turns


def _read(row: dict[str, Any]) -> dict[str, Any]:
    return {"messages": plain_turns(row["messages"], row.get("system"), "messages")}


MESSAGES = FORMATS.register("messages")(
    Format(recognises=lambda row: isinstance(row.get("messages"), list) and "conversations" not in row, read=_read)
)
