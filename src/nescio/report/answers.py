"""The answers of a run's rows, read and checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nescio.core.files import fingerprint
from nescio.report import figures, table
from nescio.report.spans import wrong_spans
from nescio.report.table import Row

Answer = dict[str, Any]
"""A line of `eval/NAME.jsonl`."""


def read_answers(run: Path, row: Row) -> list[Answer]:
    """Read the answers of a row.

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


def _counted(row: Row, answers: Sequence[Answer]) -> bool:
    """Whether a row counts these answers; results without a hash, of older versions, are checked by their counts."""
    found = {
        "samples": len(answers), "pii": sum(len(answer["spans"]) for answer in answers),
        "answers_hash": fingerprint(answers),
    }  # fmt: skip
    return all(row.get(key) in (None, value) for key, value in found.items())


def sample_keys(answers: Sequence[Answer]) -> list[Any]:
    """Return what decides whether two rows answered the same samples: ids alone may belong to other texts."""
    return [[answer["id"], answer["messages"]] for answer in answers]


def _wrong_field(answer: Answer) -> str | None:
    """The reason why an answer cannot be shown, or None."""
    text, spans, messages = answer.get("answer"), answer.get("spans"), answer.get("messages")
    if not isinstance(text, str):
        return "answer must be a text"
    if not all(isinstance(answer.get(key), str) for key in ("id", "dialog_id")):
        return "id and dialog_id must be texts"
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        return "messages must be a list of role and content"
    return wrong_spans(text, spans)


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
