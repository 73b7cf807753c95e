"""Alpaca's format: `{"instruction", "input"?, "output", "system"?}`, one question and its answer."""

from typing import Any

from nescio.core.errors import NescioError
from nescio.data.formats import FORMATS, Format
from nescio.data.formats.turns import has_turns, plain_turns


def _read(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("history"):
        raise NescioError("history: earlier turns are not read; give all turns as messages")
    more = row.get("input")
    if more is not None and not isinstance(more, str):
        raise NescioError(f"input: must be a text, is {type(more).__name__}")
    asked = "\n\n".join(part for part in (row["instruction"], more) if part and part.strip())
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
    return {"messages": plain_turns(row | {"messages": turns}, "messages")}


ALPACA = FORMATS.register("alpaca")(
    Format(
        recognises=lambda row: (
            isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str) and not has_turns(row)
        ),
        read=_read,
    )
)
