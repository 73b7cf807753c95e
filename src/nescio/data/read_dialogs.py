"""Dialogs from files of any registered format, read and checked one at a time; only their ids stay in memory."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nescio.core.callbacks import Note
from nescio.core.errors import NescioError
from nescio.core.files import Refuse, read_jsonl, stop
from nescio.data.dialogs import Dialog, Fields, parse_dialog
from nescio.data.formats import FORMATS, Format
from nescio.data.rows import SUFFIXES, files_in, is_saved_dataset, read_rows

_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})$", re.IGNORECASE)
_FIELDS_NAMED = 6
_SCRUBBED = re.compile(r"scrubbed([-_]data)?")


def read_dialogs(source: Path, pii: Path | None = None, refuse: Refuse = stop) -> Iterator[Dialog]:
    """Read and check dialogs.

    Args:
        source: A file, a folder of files, a `datasets` folder, or a glob.
        pii: LLM-PC's file of slot values; None: the one beside the dialogs, `pii` in its name for `scrubbed-data`.
        refuse: Called with each bad row; by default the first one ends the reading.

    Raises:
        NescioError: A row is wrong: file, line, field and remedy are named.
    """
    formats = {name: FORMATS.get(name) for name in FORMATS}
    seen: dict[str, str] = {}
    for path, name in _names(files_of(source)).items():
        slots = _SlotValues(pii or companion(path))
        for number, row in read_rows(path, refuse):
            place = f"{path}:{number}"
            try:
                dialog = _dialog(formats, row, f"{name}-{number}", slots, number)
                if dialog.id in seen:
                    raise NescioError(f"id {dialog.id!r} stands at {seen[dialog.id]} already; make it unique")
            except NescioError as error:
                refuse(NescioError(f"{place}: {error}"), row)
                continue
            seen[dialog.id] = f"line {number}" if path == source else place
            yield dialog
        try:
            slots.check_end(path)
        except NescioError as error:
            refuse(error, None)


def files_of(source: Path, note: Note = lambda line: None) -> list[Path]:
    """Return the files, in order of their names, that a file, folder or glob stands for; a `datasets` folder is one.

    Args:
        source: As for `read_dialogs`.
        note: Told of files that are not read by themselves.

    Raises:
        NescioError: There is none, or one that holds data of a kind that is not read.
    """
    if source.is_file() or is_saved_dataset(source):
        return [source]
    if source.is_dir():
        found = files_in(source)
    else:
        matches = sorted(Path(source.anchor).glob(str(source.relative_to(source.anchor))))
        found = [path for path in matches if path.is_file() or is_saved_dataset(path)]
    if not found:
        raise NescioError(f"{source}: no such dialog file; give JSONL, Parquet, a folder of them or a glob")
    return without_slot_files(found, note)


def without_slot_files(files: Sequence[Path], note: Note) -> list[Path]:
    """Leave out files of slot values, which are read with their dialogs; each is noted."""
    dialogs = {companion(path): path for path in files}
    for path in files:
        if path in dialogs:
            note(f"{path}: slot values, read with {dialogs[path]}")
    return [path for path in files if path not in dialogs]


def companion(path: Path) -> Path | None:
    """Return LLM-PC's second file: beside the first, with `pii` in its name in the place of `scrubbed-data`."""
    second = path.with_name(_SCRUBBED.sub("pii", path.name))
    return second if second != path and second.exists() and _has_slots(path) else None


def _has_slots(path: Path) -> bool:
    """Whether the first row is of a format whose values stand in a second file; others may have such names too."""
    try:
        row = next(read_rows(path, lambda error, row: None), (0, None))[1]
    except NescioError:  # whoever reads the file says so
        return False
    how = format_of(row, map(FORMATS.get, FORMATS)) if isinstance(row, dict) else None
    return how is not None and how.has_slot_file


def _names(files: list[Path]) -> dict[Path, str]:
    """Return what the dialogs without an id of each file are called by, different for each.

    Of several files it is the path below the folder that they share, without the suffix where that is enough.
    """
    if len(files) == 1:
        return {files[0]: files[0].name.split(".")[0]}
    shared = os.path.commonpath([path.parent for path in files])
    whole = {path: path.relative_to(shared).as_posix() for path in files}
    short = {path: _SUFFIX.sub("", name) for path, name in whole.items()}
    taken = Counter(short.values())
    return {path: name if taken[name] == 1 else whole[path] for path, name in short.items()}


def format_of(row: dict[str, Any], formats: Iterable[Format]) -> Format | None:
    """Return the first format that recognises a row."""
    return next((each for each in formats if each.recognises(row)), None)


def _dialog(formats: dict[str, Format], row: Any, default_id: str, slots: "_SlotValues", number: int) -> Dialog:
    if not isinstance(row, dict):
        return parse_dialog(row, default_id)
    how = format_of(row, formats.values())
    if how is None:
        known, there = ", ".join(sorted(formats)), ", ".join(map(repr, list(row)[:_FIELDS_NAMED]))
        raise NescioError(
            f"messages: missing or empty; give a list of {{'role', 'content'}} (formats: {known}), or write a format "
            f"of your own for the fields {there} (docs/data.md)"
        )
    if how.has_slot_file:
        place, values = slots.at(number)
        row = row | {"slot_values": values, "slot_place": place}
    read = how.read(row)
    # What many exports hold beside the turns, whatever the format.
    read = {name: row[name] for name in ("id", "pii") if name in row} | read
    turns = row.get(how.turns)
    has_from = isinstance(turns, list) and any(isinstance(turn, dict) and "from" in turn for turn in turns)
    fields = Fields(how.turns, "from", "value") if has_from else Fields(how.turns)
    return parse_dialog(read, default_id, fields)


class _SlotValues:
    """LLM-PC's values, a line for each line of the dialogs, read as they are asked for."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lines = iter(()) if path is None else read_jsonl(path)
        self._next: tuple[int, Any] | None = None

    def at(self, number: int) -> tuple[str, dict[str, str]]:
        """Return the place and the values of a line."""
        if self._path is None:
            raise NescioError("messages: slots need the file of their values; name it (pii), or lay it beside")
        while self._next is None or self._next[0] < number:
            self._next = next(self._lines, None)
            if self._next is None:
                break
        if self._next is None or self._next[0] != number:
            raise NescioError(f"messages: {self._path} has no values at line {number}; lines must match")
        values = self._next[1]
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise NescioError(f"{self._path}:{number}: must be an object of slot: text")
        return f"{self._path}:{number}", values

    def check_end(self, dialogs: Path) -> None:
        """Check that no values are left over after the last dialog."""
        if self._next is not None and (left := next(self._lines, None)) is not None:
            raise NescioError(f"{self._path}:{left[0]}: there is no such line in {dialogs}; lines must match")
