"""Texts whose personal data is known: what one is, and how JSON lines of them are read and checked."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.pii.base import Span

_FORM = '{"text", "spans": [{"start", "end", "label"}]}'


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and the pieces of personal data in it.

    Attributes:
        place: Where the text stands, for people: file and line, or dialog and message.
        text: The text.
        spans: Its pieces, in any order.
    """

    place: str
    text: str
    spans: list[Span]


def read_labelled(path: Path, rows: Iterable[tuple[int, Any]] | None = None) -> Iterator[Labelled]:
    """Read rows of `{"text", "spans": [{"start", "end", "label" or "type", "value"?}]}`.

    Offsets count characters from 0; `end` is the first character behind the piece.

    Args:
        path: Where they stand.
        rows: The rows with their lines; None: the file is JSON lines.

    Raises:
        NescioError: A row is wrong: file, line, field and remedy are named.
    """
    for number, row in read_jsonl(path) if rows is None else rows:
        place = f"{path}:{number}"
        try:
            yield Labelled(place, *parse_labelled(row))
        except NescioError as error:
            raise NescioError(f"{place}: {error}") from error


def parse_labelled(row: Any) -> tuple[str, list[Span]]:
    """Check one row, and return its text and spans.

    Raises:
        NescioError: The row is wrong; field and remedy are named, file and line are the caller's.
    """
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise NescioError(f"text: missing or no text; a labelled text is {_FORM}")
    text, spans = row["text"], row.get("spans")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise NescioError(f"text: holds half a character at {error.start}; correct what wrote the file") from error
    if not isinstance(spans, list):
        raise NescioError("spans: missing or no list; give [] where a text holds no personal data")
    pieces = [_span(text, span, f"spans[{index}]") for index, span in enumerate(spans)]
    return text, list(dict.fromkeys(pieces))  # what is labelled twice is one piece


def _span(text: str, span: Any, field: str) -> Span:
    if not isinstance(span, dict):
        raise NescioError(f"{field}: not an object; give {{'start', 'end', 'label'}}")
    start, end = (_offset(span, name, field) for name in ("start", "end"))
    label = span.get("label", span.get("type"))
    if not isinstance(label, str) or not label.strip():
        raise NescioError(f"{field}.label: missing or no text; name what the piece is, such as person or phone")
    if not 0 <= start < end <= len(text):
        raise NescioError(
            f"{field}: {start} to {end} is not inside the text, which has {len(text)} characters; count characters "
            "(not bytes) from 0, and let end stand behind the last"
        )
    piece, value = text[start:end], span.get("value")
    if value is not None and value != piece:
        at = text.find(value) if isinstance(value, str) and value else -1
        fix = f"it stands at {at} to {at + len(value)}" if at >= 0 else "correct the value, or start and end"
        raise NescioError(f"{field}.value: is {value!r}, but the text has {piece!r} at {start} to {end}; {fix}")
    return Span(start, end, label.strip(), piece)


def _offset(span: dict[str, Any], name: str, field: str) -> int:
    value = span.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise NescioError(f"{field}.{name}: must be a whole number, is {value!r}")
    return value
