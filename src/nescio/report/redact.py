"""A report that can be shown: what it quotes of prompts and answers, masked."""

from collections.abc import Callable, Sequence
from typing import Any

from nescio.report.table import Row

Masked = Callable[[str], Sequence[tuple[int, int, str]]]
"""Returns where a text has personal data, and its label: `(start, end, label)`, in order and apart."""


def redacted(quoted: dict[str, Any], masked: Masked) -> dict[str, Any]:
    """Return a quoted answer with its prompt, both masked; each counted span is the mark that stands in its place.

    What is recorded may reach over a counted span, as an address over its town: all of it goes, and the span's mark
    stays.

    Args:
        quoted: With `answer` and `spans`; `messages` and `asked` are the prompt, where it has them.
        masked: Finds also what was not counted.
    """
    answer = quoted["answer"]
    # 1) What shares characters is hidden together.
    places = [(span["start"], span["end"], span["label"], True) for span in quoted["spans"]]
    places += [(*place, False) for place in masked(answer)]
    hidden, end = list[list[tuple[int, int, str, bool]]](), 0
    for place in sorted(places):
        if place[0] >= end:
            hidden.append([])
        hidden[-1].append(place)
        end = max(end, place[1])
    # 2) Each counted span has its own mark, so that the page counts the same.
    text, spans, end = "", [], 0
    for together in hidden:
        text += answer[end : together[0][0]]
        end = max(place[1] for place in together)
        counted = [label for *_, label, counts in together if counts]
        for label in counted or [together[0][2]]:
            spans += [{"start": len(text), "end": len(text) + len(label) + 2, "label": label}] if counted else []
            text += f"[{label}]"
    prompt = {key: _masked(quoted[key], masked) for key in ("messages", "asked") if key in quoted}
    return quoted | prompt | {"answer": text + answer[end:], "spans": spans}


def redacted_row(row: Row, masked: Masked) -> Row:
    """Return a row of the results with the answers that it quotes masked."""
    asked_for = [redacted(quoted, masked) for quoted in row.get("asked_for_answers") or ()]
    attacked = [_attacked(quoted, masked) for quoted in row.get("attacked_examples") or ()]
    filler = [each | {"words": _masked(each["words"], masked)} for each in row.get("filler_words") or ()]
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
        return redacted({"answer": prompt, "spans": []}, masked)["answer"]
    return [turn | {"content": _masked(turn["content"], masked)} for turn in prompt]
