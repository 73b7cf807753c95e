"""The texts of a command's files, folders and standard input; and texts that are safe to print."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nescio.core.errors import NescioError

if TYPE_CHECKING:
    from nescio.pii.scan import Text


@contextmanager
def texts_of(sources: Iterable[Path], field: str | None) -> "Iterator[Iterator[Text]]":
    """Give the texts of files and folders; `-` is standard input, which is put into a file for that time."""
    from nescio.data.texts import read_texts

    def note(line: str) -> None:
        print(f"nescio: {line}", file=sys.stderr)

    def read(folder: Path) -> "Iterator[Text]":
        for source in sources:
            piped = _piped(folder) if str(source) == "-" else None
            try:
                for text in read_texts(piped or source, field, note):
                    yield replace(text, place=text.place.replace(f"{folder}/", "")) if piped else text
            except NescioError as error:
                raise NescioError(str(error).replace(f"{folder}/", "")) from error

    with TemporaryDirectory() as folder:
        yield read(Path(folder))


def _piped(folder: Path) -> Path:
    """Put standard input into a file whose name says what it is: rows of JSON, or plain text."""
    raw = sys.stdin.buffer.read()
    first = raw.lstrip().split(b"\n", 1)[0]
    name = "stdin.txt"
    for content, suffix in ((first, "jsonl"), (raw, "json")):
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, str | dict | list):
            name = f"stdin.{suffix}"
            break
    (folder / name).write_bytes(raw)
    return folder / name


def printable(text: str) -> str:
    """Return a text without the control characters by which it could command the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
