"""Texts with marks for people to correct: `Ask [[person:Jane Doe]].`, a plain text file of them.

A backslash says that the next character is meant as it stands: a text's own brackets and backslashes come through.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.core.files import write_text
from nescio.pii.base import Span, merge
from nescio.pii.labelled import Labelled

_HEAD = """\
# Correct the marks, and save the file as it is. Then: nescio detect check THIS_FILE
# [[person:Jane Doe]] marks a piece of personal data. Add what is missing, and remove wrong marks.
# A line that begins with === opens the next text. A backslash escapes [, ] or \\; it is not part of the text.
"""
_OPEN = "==="
_MARK = re.compile(r"\[\[(\w[\w -]*):")
_ESCAPE = re.compile(r"\\([\\\[\]=r])")
_PLAIN = re.compile(r"[^\\\[\]]+")


def write_marked(path: Path, texts: Iterable[Labelled]) -> int:
    """Write a file of marked texts.

    Args:
        path: A text file; there must be none, because it may hold hours of correcting.
        texts: Spans that overlap get one mark.

    Returns:
        How many texts were written.

    Raises:
        NescioError: There is such a file already.
    """
    if path.exists():
        raise NescioError(f"{path}: exists already, and may hold corrections; choose another name or move it away")
    blocks = [f"{_OPEN} {' '.join(one.place.split())}\n{marked(one.text, one.spans)}\n" for one in texts]
    write_text(path, _HEAD + "".join(blocks))
    return len(blocks)


def marked(text: str, spans: Iterable[Span]) -> str:
    """Return a text with its pieces marked, so that `parse_marked` gives back both."""
    parts, position = list[str](), 0
    for span in merge(spans, text):
        label = re.sub(r"[^\w -]", "_", span.label.lower())
        parts += [_plain(text[position : span.start]), f"[[{label}:{_escaped(text[span.start : span.end], '[]')}]]"]
        position = span.end
    return re.sub(r"^(?==)", r"\\", "".join([*parts, _plain(text[position:])]), flags=re.MULTILINE)


def _plain(text: str) -> str:
    """Escape what could be read as the beginning of a mark: a bracket before a bracket, or at the end."""
    return re.sub(r"\[(?=\[|\Z)", r"\\[", _escaped(text, ""))


def _escaped(text: str, characters: str) -> str:
    escaped = re.sub(rf"[\\{re.escape(characters)}]", r"\\\g<0>", text)
    return escaped.replace("\r", r"\r")  # editors make line ends alike


def read_marked(path: Path) -> Iterator[Labelled]:
    """Read a file of marked texts.

    Raises:
        NescioError: The file is missing or not UTF-8, or a mark is wrong: file, line and remedy are named.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except FileNotFoundError as error:
        raise NescioError(f"{path}: no such file; check the path") from error
    except UnicodeDecodeError as error:
        raise NescioError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    opens = [number for number, line in enumerate(lines) if line.startswith(_OPEN)]
    if not opens:
        raise NescioError(f"{path}: no line begins with {_OPEN}, which opens a text; make a file with --sample")
    for start, end in zip(opens, [*opens[1:], len(lines)], strict=True):
        place = lines[start].removeprefix(_OPEN).strip()
        try:
            found = parse_marked("\n".join(lines[start + 1 : end]))
        except MarkError as error:
            raise NescioError(f"{path}:{start + 2 + error.line}: {error}") from error
        yield Labelled(f"{path}:{start + 1}" + (f" ({place})" if place else ""), *found)


class MarkError(ValueError):
    """A mark is wrong; `line` is its line in the marked text, from 0."""

    def __init__(self, message: str, marked: str, at: int) -> None:
        super().__init__(message)
        self.line = marked.count("\n", 0, at)


def parse_marked(marked: str) -> tuple[str, list[Span]]:
    """Return the text and the spans that a marked text says.

    Raises:
        MarkError: A mark is not closed, is empty or stands in another.
    """
    text, spans, position = "", list[Span](), 0
    opened: re.Match[str] | None = None
    start = 0  # of the open mark's piece in the text
    while position < len(marked):
        if escape := _ESCAPE.match(marked, position):
            text += escape[1].replace("r", "\r")
            position = escape.end()
        elif found := _MARK.match(marked, position):
            if opened:
                raise MarkError(f"mark {found[0]}… stands in another mark; close the first with ]]", marked, position)
            opened, start, position = found, len(text), found.end()
        elif opened and marked.startswith("]]", position):
            if not text[start:].strip():
                raise MarkError(f"mark {opened[0]}]] is empty; take it away or fill it", marked, position)
            spans.append(Span(start, len(text), opened[1], text[start:]))
            opened, position = None, position + 2
        else:
            plain = _PLAIN.match(marked, position)
            text += plain[0] if plain else marked[position]
            position = plain.end() if plain else position + 1
    if opened:
        raise MarkError(f"mark {opened[0]}… is not closed; write ]] behind the piece", marked, opened.start())
    return text, spans
