"""A report that can be shown: what it quotes of prompts and answers, masked."""

from collections.abc import Callable
from typing import Any

from nescio.report.spans import parts
from nescio.report.table import Row

Masked = Callable[[str], str]
"""Returns a text with a mark in place of each piece of personal data."""


def redacted(quoted: dict[str, Any], masked: Masked) -> dict[str, Any]:
    """Return a quoted answer with its prompt, both masked; each counted span is the mark that stands in its place.

    Args:
        quoted: With `answer` and `spans`; `messages` and `asked` are the prompt, where it has them.
        masked: Masks what was not counted.
    """
    text, spans = "", []
    for part, label in parts(quoted["answer"], quoted["spans"]):
        shown = f"[{label}]" if label else masked(part)
        if label:
            spans.append({"start": len(text), "end": len(text) + len(shown), "label": label})
        text += shown
    prompt = {key: _masked(quoted[key], masked) for key in ("messages", "asked") if key in quoted}
    return quoted | prompt | {"answer": text, "spans": spans}


def redacted_row(row: Row, masked: Masked) -> Row:
    """Return a row of the results with the answers that it quotes masked."""
    asked_for = [redacted(quoted, masked) for quoted in row.get("asked_for_answers") or ()]
    attacked = [_attacked(quoted, masked) for quoted in row.get("attacked_examples") or ()]
    filler = [each | {"words": masked(each["words"])} for each in row.get("filler_words") or ()]
    shown = {"asked_for_answers": asked_for, "attacked_examples": attacked, "filler_words": filler}
    return row | {key: quotes for key, quotes in shown.items() if row.get(key) is not None}


def _attacked(quoted: dict[str, Any], masked: Masked) -> dict[str, Any]:
    """Return an attack's example masked, also where it says the value in another form than the recorded one."""
    spans = [{"start": start, "end": end, "label": "value"} for start, end in quoted["places"]]
    hidden = redacted(quoted | {"spans": spans}, masked)
    places = [[span["start"], span["end"]] for span in hidden.pop("spans")]
    return hidden | {"places": places, "value": "", "read": None}


def _masked(prompt: Any, masked: Masked) -> Any:
    """Return a text or a conversation masked."""
    if isinstance(prompt, str):
        return masked(prompt)
    return [turn | {"content": masked(turn["content"])} for turn in prompt]
