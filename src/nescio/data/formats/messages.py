"""nescio's own format, and OpenAI's for fine-tuning: `{"messages": [{"role", "content"}]}`."""

import json
from typing import Any

from nescio.core.errors import NescioError
from nescio.data.formats import FORMATS, Format
from nescio.data.formats.turns import plain_turns


def _recognises(row: dict[str, Any]) -> bool:
    turns = row.get("messages")
    # Some tables hold the list as a text of JSON.
    return isinstance(turns, list) or (isinstance(turns, str) and turns.lstrip().startswith("[{"))


def _read(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("conversations") is not None:
        raise NescioError("messages: the row has conversations too; keep one of the two")
    if isinstance(row["messages"], str):
        try:
            row = row | {"messages": json.loads(row["messages"])}
        except json.JSONDecodeError as error:
            raise NescioError(f"messages: a text that is no JSON ({error.msg}); give a list of turns") from error
    return {"messages": plain_turns(row, "messages")}


MESSAGES = FORMATS.register("messages")(Format(recognises=_recognises, read=_read))
