"""The answers of a run's rows, read and checked. Knows JSON lines; nothing of how they are shown."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from nescio.report import figures, table
from nescio.report.table import Row


def read_answers(run: Path, row: Row) -> list[Row]:
    """The answers of a row.

    Raises:
        NescioError: The file is missing or damaged.
    """
    path = run / f"eval/{row['name']}.jsonl"
    answers = []
    for number, answer in figures.read_lines(path):
        wrong = _wrong_field(answer)
        if wrong:
            raise table.spoiled(path, f"line {number}: {wrong}")
        answers.append(answer)
    return answers


def _wrong_field(answer: Row) -> str | None:
    """What keeps an answer from being shown, or None."""
    text, spans, messages = answer.get("answer"), answer.get("spans"), answer.get("messages")
    if not isinstance(text, str):
        return "answer must be a text"
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        return "messages must be a list of role and content"
    if not isinstance(spans, list) or not all(_is_span(span, len(text)) for span in spans):
        return "spans must be a list of start, end and label inside the answer"
    if any(left["end"] > right["start"] for left, right in pairwise(spans)):
        return "spans must be in order and apart"
    return None


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def _is_span(span: Any, length: int) -> bool:
    if not isinstance(span, dict) or not isinstance(span.get("label"), str):
        return False
    start, end = span.get("start"), span.get("end")
    return isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= length
