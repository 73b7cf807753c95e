"""The LLM-PC competition's format: one text in Llama 3.1's template with slots, and a second file of their values."""

import re
from typing import Any

from nescio.core.errors import NescioError
from nescio.data.formats import FORMATS, Format

_TURN = re.compile(
    r"<\|start_header_id\|>(.*?)<\|end_header_id\|>\n\n(.*?)(?=<\|(?:eot_id|end_of_text|start_header_id)\|>|\Z)", re.S
)
_SLOT = re.compile(r"\[[A-Z][A-Z_ ]*-\d+\]")


def _read(row: dict[str, Any]) -> dict[str, Any]:
    text, values = row["messages"], row["slot_values"]
    for slot, value in values.items():
        if f"[{slot}]" not in text:
            raise NescioError(f"messages: no slot [{slot}] for the value {value!r} of {row['slot_place']}")
    messages = [{"role": role, "content": fill(content, values).strip()} for role, content in _TURN.findall(text)]
    if not messages:
        raise NescioError("messages: a text without Llama 3 headers; give a list of {'role', 'content'}")
    return {"messages": messages, "pii": values} | ({"id": row["idx"]} if "idx" in row else {})


def fill(text: str, values: dict[str, str]) -> str:
    """Put the values into a text's slots in one pass: a value that looks like a slot stays.

    Raises:
        NescioError: A slot has no value.
    """
    known = "|".join(re.escape(f"[{slot}]") for slot in sorted(values, key=len, reverse=True))
    rest = re.sub(known, "", text) if known else text
    if missing := _SLOT.search(rest):
        raise NescioError(f"messages: the slot {missing[0]} has no value; add it to the file of values")
    return re.sub(known, lambda slot: values[slot[0][1:-1]], text) if known else text


LLM_PC = FORMATS.register("llm_pc")(
    Format(
        recognises=lambda row: isinstance(row.get("messages"), str) and not row["messages"].lstrip().startswith("[{"),
        read=_read,
        has_slot_file=True,
    )
)
