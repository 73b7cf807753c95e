"""The files of a published benchmark: in a folder, whatever their suffix, or on the hub."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError, first_line
from nescio.core.extras import require
from nescio.core.files import stop
from nescio.data.rows import SUFFIXES, read_rows

FORGET_SHARES = (10, 5, 1)
"""Published sizes of the forget half, in percent."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row with its place, for errors.

    Attributes:
        place: File and line, or the hub's name and number.
        values: The row.
        form: What a row of this benchmark holds, in words.
    """

    place: str
    values: dict[str, Any]
    form: str

    def text(self, field: str) -> str:
        """Return a text.

        Raises:
            NescioError: It is missing or empty.
        """
        value = self.values.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(field, "missing or empty")
        return value.strip()

    def texts(self, field: str) -> tuple[str, ...]:
        """Return a list of texts; a single text is a list of one.

        Raises:
            NescioError: It is missing or empty, or holds something else.
        """
        value = self.values.get(field)
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(isinstance(one, str) and one.strip() for one in found):
            raise self.wrong(field, "must be a list of texts")
        return tuple(one.strip() for one in found)

    def wrong(self, field: str, what: str) -> NescioError:
        """Return an error about a field of this row."""
        return NescioError(f"{self.place}: {field}: {what}; {self.form}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Where a benchmark is read from.

    Attributes:
        name: The benchmark's name.
        folder: The folder of its files; None: the hub.
        hub: Its data set on the hub; None where it is on no hub.
        home: Where its files are, for errors.
        form: What its rows hold, in words, for errors.
    """

    name: str
    folder: Path | None
    hub: str | None
    home: str
    form: str

    def has(self, file: str) -> bool:
        """Whether the folder has a file of this name, whatever its suffix; of the hub it is not known before."""
        return self.folder is None or bool(self._found(self.folder, file))

    def rows(self, file: str, *, config: str | None = None, split: str = "train") -> Iterator[Row]:
        """Yield the rows of a file.

        Args:
            file: Its name without the suffix.
            config: The configuration on the hub.
            split: The split on the hub.

        Raises:
            NescioError: The file is missing, there twice, damaged or empty, or a row is no object.
        """
        found = self._of_hub(config, split) if self.folder is None else self._of_folder(self.folder, file)
        empty = True
        for place, row in found:
            empty = False
            if not isinstance(row, dict):
                raise NescioError(f"{place}: not an object; {self.form}")
            yield Row(place, row, self.form)
        if empty:
            raise NescioError(f"{self.folder or self.hub}: {file}: no rows; take the whole file from {self.home}")

    def _found(self, folder: Path, file: str) -> list[Path]:
        names = {f"{file}{suffix}" for suffix in SUFFIXES}
        return sorted(path for path in folder.rglob(f"{file}.*") if path.name in names)

    def _of_folder(self, folder: Path, file: str) -> Iterator[tuple[str, Any]]:
        if not folder.is_dir():
            raise NescioError(f"{folder}: no such folder; {self.name}'s files are at {self.home}")
        paths = self._found(folder, file)
        if len(paths) != 1:
            said = "is there twice, keep one" if paths else f"is missing; {self.name} has it at {self.home}"
            raise NescioError(f"{folder}: {file}.json or .jsonl {said}")
        whole = _one_object(paths[0])
        for number, row in read_rows(paths[0], stop) if whole is None else [(1, whole)]:
            yield f"{paths[0]}:{number}", row

    def _of_hub(self, config: str | None, split: str) -> Iterator[tuple[str, Any]]:
        if self.hub is None:
            raise NescioError(f"{self.name}: is on no hub; take its files from {self.home} and give --data FOLDER")
        datasets = require("datasets", "data", f"{self.name} from the hub")
        name = "/".join(part for part in (self.hub, config, split) if part)
        try:
            loaded = datasets.load_dataset(self.hub, config, split=split)
        except Exception as error:  # the library's errors are of many kinds: no network, no such split, no right
            raise NescioError(
                f"{name}: cannot be read from the hub ({first_line(error)}); take the files from {self.home} and "
                "give --data FOLDER"
            ) from error
        for number, row in enumerate(loaded, start=1):
            yield f"{name}:{number}", row


def _one_object(path: Path) -> Any:
    """Return the object that a `.json` file is as a whole; None where it is an array, or lines."""
    if path.suffix.lower() != ".json":
        return None
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # whoever reads it as rows names the line
        return None
    return value if isinstance(value, dict) else None


def check_halves(name: str, sides: Sequence[tuple[str, str]]) -> None:
    """Check that no subject stands in both halves.

    Args:
        name: The benchmark's name.
        sides: Side and subject of each question.

    Raises:
        NescioError: One does.
    """
    halves = {side: {subject for own, subject in sides if own == side} for side in ("forget", "retain")}
    if both := halves["forget"] & halves["retain"]:
        raise NescioError(
            f"{name}: {min(both)!r} stands in the forget and in the retain half; take both from one version"
        )
