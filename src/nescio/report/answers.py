"""The answers of a run's rows, read and checked. Knows JSON lines; nothing of how they are shown."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from nescio.core.files import fingerprint
from nescio.report import figures, table
from nescio.report.table import Row


def read_answers(run: Path, row: Row) -> list[Row]:
    """The answers of a row.

    Raises:
        NescioError: The file is missing or damaged, or holds other answers than the row counts.
    """
    path = run / f"eval/{row['name']}.jsonl"
    answers = []
    for number, answer in figures.read_lines(path):
        wrong = _wrong_field(answer)
        if wrong:
            raise table.spoiled(path, f"line {number}: {wrong}")
        answers.append(answer)
    if not _counted(row, answers):
        raise table.spoiled(path, "not the answers that results.json counts")
    return answers


def _counted(row: Row, answers: Sequence[Row]) -> bool:
    """Whether a row's numbers are those of these answers; results of before the hash are checked by their counts."""
    found = {
        "samples": len(answers), "pii": sum(len(answer["spans"]) for answer in answers),
        "answers_hash": fingerprint(answers),
    }  # fmt: skip
    return all(row.get(key) in (None, value) for key, value in found.items())


def sample_keys(answers: Sequence[Row]) -> list[Any]:
    """What tells whether two rows answered the same samples: names alone may be those of other texts."""
    return [[answer["id"], answer["messages"]] for answer in answers]


def _wrong_field(answer: Row) -> str | None:
    """What keeps an answer from being shown, or None."""
    text, spans, messages = answer.get("answer"), answer.get("spans"), answer.get("messages")
    if not isinstance(text, str):
        return "answer must be a text"
    if not all(isinstance(answer.get(key), str) for key in ("id", "dialog_id")):
        return "id and dialog_id must be texts"
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
