"""Texts from files and folders of any kind: plain text, rows with a text, and conversations of every format."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from nescio.core.callbacks import Note
from nescio.core.errors import NescioError
from nescio.core.files import stop
from nescio.data.formats import FORMATS
from nescio.data.read_dialogs import files_of, read_dialogs, without_slot_files
from nescio.data.rows import SUFFIXES, is_saved_dataset, read_rows
from nescio.pii.scan import Text

TEXT_FIELDS = ("text", "answer", "content")
Kind = Literal["text", "rows", "dialogs"]

_BLANK_LINES = re.compile(r"(\n[^\S\n]*(?:\n[^\S\n]*)+)")


def read_texts(source: Path, field: str | None = None, note: Note = print) -> Iterator[Text]:
    """Read texts: messages of conversations, texts of rows, and the paragraphs of any other file.

    Args:
        source: A file, a folder of files, a `datasets` folder, or a glob.
        field: Field of a row that holds its text; None: the first of `TEXT_FIELDS` that it has.
        note: Told of files that are left out because they are no text, or are read with another.

    Raises:
        NescioError: A file is missing or a row is wrong: file, line, field and remedy are named.
    """
    return chain.from_iterable(_texts(path, kind, field) for path, kind in readable(source, field, note))


def readable(source: Path, field: str | None, note: Note) -> Iterator[tuple[Path, Kind]]:
    """Yield the files with what each holds; of a folder without hidden ones, and without those that are no text."""
    if source.is_dir() and not is_saved_dataset(source):
        files = [path for path in sorted(source.rglob("*")) if path.is_file()]
        files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(source).parts)]
        for path in without_slot_files(files, note):
            if _is_rows(path) or is_text(path):
                yield path, _kind(path, field, note)
            else:
                note(f"{path}: no text, left out")
        return
    for path in [source] if source.exists() else _glob(source, note):
        if not (_is_rows(path) or is_text(path)):
            raise NescioError(f"{path}: neither text in UTF-8 nor a file of rows; convert it, or leave it out")
        yield path, _kind(path, field, note)


def check_exists(source: Path) -> None:
    """Check that a file, a folder or a glob stands for something, before a detector is loaded for it.

    Raises:
        NescioError: It does not.
    """
    if not source.exists():
        _glob(source, lambda line: None)


def _glob(source: Path, note: Note) -> Iterable[Path]:
    if not re.search(r"[*?\[]", str(source)):
        raise NescioError(f"{source}: no such file; check the path")
    return files_of(source, note)


def _is_rows(path: Path) -> bool:
    if not path.name.lower().endswith(SUFFIXES):
        return path.is_dir()  # a saved data set
    if path.suffix.lower() != ".json":
        return True
    with path.open("rb") as file:  # JSON of one value over many lines, such as settings, is read as plain text
        return bool(re.match(rb"\s*\[|.*[\]}\"]\s*$", file.readline(), re.DOTALL)) or b"\0" in file.read(2)


def is_text(path: Path) -> bool:
    """Whether a file is text in UTF-8."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            while block := file.read(1 << 20):
                if "\0" in block:
                    return False
    except UnicodeDecodeError:
        return False
    return True


def _kind(path: Path, field: str | None, note: Note) -> Kind:
    """Say what a file holds, by its first row; what of the row is not read is noted."""
    if not _is_rows(path):
        return "text"
    row = next(read_rows(path, stop), (0, None))[1] if field is None else None
    if field is not None or isinstance(row, str):
        return "rows"
    fields = row if isinstance(row, dict) else {}
    text = next((name for name in TEXT_FIELDS if isinstance(fields.get(name), str)), None)
    turns = _turns(fields)
    if text is not None and (turns is None or not fields[turns]):
        return "rows"
    if text is not None and _is_answer(fields):
        note(f"{path}: rows of answers; the field {text} is read, and {turns} is left out")
        return "rows"
    if turns is not None:
        if text is not None:
            note(f"{path}: conversations; {turns} is read, and the field {text} is left out (--field {text} reads it)")
        return "dialogs"
    # Settings and the like may stand in one line, too.
    return "text" if path.suffix.lower() == ".json" and is_text(path) else "rows"


def _turns(row: dict[str, Any]) -> str | None:
    """Return the field that holds the turns of a conversation; None: the row is of no dialog format."""
    formats = map(FORMATS.get, FORMATS)
    return next((each.turns for each in formats if row and each.recognises(row)), None)


def _is_answer(row: dict[str, Any]) -> bool:
    """Whether a row is an answer, as in a run's `eval/`: its messages are the prompt, maybe with the beginning."""
    if not isinstance(row.get("answer"), str):
        return False
    last = row["messages"][-1] if isinstance(row.get("messages"), list) else None
    is_prompt = isinstance(last, dict) and last.get("role") == "user"
    return is_prompt or {"dialog_id", "spans"} <= row.keys()


def _texts(path: Path, kind: Kind, field: str | None) -> Iterator[Text]:
    if kind == "text":
        line = 1
        for part in paragraphs(path):
            if part.strip():
                yield Text(str(path), part, line)
            line += part.count("\n")
    elif kind == "dialogs":
        for dialog in read_dialogs(path):
            for number, message in enumerate(dialog.messages):
                yield Text(f"{path}: dialog {dialog.id}, messages[{number}]", message["content"])
    else:
        for number, row in read_rows(path, stop):
            place = f"{path}:{number}"
            turns = _turns(row) if field is None and isinstance(row, dict) else None
            if turns and row[turns] and not _is_answer(row):
                raise NescioError(
                    f"{place}: is a conversation, and the rows before are none; put conversations into a file of their "
                    "own, or name the field that is read with --field"
                )
            yield Text(place, row if isinstance(row, str) else row[text_field(row, field, place)])


def paragraphs(path: Path) -> list[str]:
    """Cut a text file at its blank lines; the parts, blank ones among them, are the whole text."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return _BLANK_LINES.split(file.read())


def text_field(row: Any, field: str | None, place: str) -> str:
    """Return the name of the field that holds a row's text.

    Raises:
        NescioError: It has none.
    """
    fields = TEXT_FIELDS if field is None else (field,)
    for name in fields:
        if isinstance(row, dict) and isinstance(row.get(name), str):
            return name
    raise NescioError(f"{place}: neither a text nor an object with {' or '.join(fields)}; name it with --field")
