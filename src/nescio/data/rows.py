"""Rows of dialog files: JSON lines or an array, in any Unicode encoding, gzipped or not, Parquet, saved data sets."""

import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from nescio.core.encodings import open_utf8
from nescio.core.errors import NescioError, first_line
from nescio.core.extras import require
from nescio.core.files import Refuse, read_jsonl

DEEPEST = 100
"""Most arrays and objects within each other in a JSON array's file; dialogs have a handful."""
_HALF = re.compile("[\ud800-\udfff]")
_JSON = (".jsonl", ".ndjson", ".jsonlines", ".jl", ".json")
SUFFIXES = (*_JSON, *(f"{suffix}.gz" for suffix in _JSON), ".parquet")
_IN_NAME = re.compile(r"\.(jsonl|ndjson|jsonlines|json)[.~_-](?!lock|md5|sha)")  # "export.jsonl.1", "export.jsonl.part"
# What a data set's folder holds beside its rows. Anything else that looks like data is refused, not passed over.
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json", "package.json")
_OTHER_DATA = (
    ".csv", ".tsv", ".arrow", ".feather", ".avro", ".orc", ".xml", ".zip", ".tar", ".gz", ".bz2", ".xz", ".zst",
    ".xlsx", ".sqlite", ".db", ".pkl", ".pickle", ".npy", ".npz", ".geojsonl", ".json5",
)  # fmt: skip
_MAYBE_ROWS = ("", ".txt", ".log", ".data")  # rows, as Spark's `part-00000`, or a description: the first byte tells


def check_whole(text: str, place: str, fix: str) -> None:
    """Refuse half a character: a surrogate without its other half, which JSON can say, and UTF-8 and tokenizers can't.

    Raises:
        NescioError: The text holds one; `fix` ends the line.
    """
    if half := _HALF.search(text):
        raise NescioError(f"{place}: holds half a character (U+{ord(half[0]):X}, a lone surrogate); {fix}")


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder and of the folders in it that hold rows, in order of their paths.

    Raises:
        NescioError: A file holds data of a kind that is not read.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        name = path.name.lower()
        if name.endswith(SUFFIXES) and name not in _DESCRIPTIONS:
            found.append(path)
        elif (
            name.endswith(_OTHER_DATA)
            or _IN_NAME.search(name)
            or (path.suffix.lower() in _MAYBE_ROWS and path.open("rb").read(64).lstrip()[:1] == b"{")
        ):
            raise NescioError(f"{path}: cannot be read as dialogs; convert it to JSONL, or move it out of {folder}")
    return found


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `datasets`' `save_to_disk`."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def read_rows(path: Path, refuse: Refuse) -> Iterator[tuple[int, Any]]:
    """Read the rows of a file with their line, or with their number where there are no lines.

    Args:
        path: A file, or a `datasets` folder.
        refuse: Called with each line that is no JSON.

    Raises:
        NescioError: The file is damaged, needs a library that is missing, or holds data of a kind that is not read.
    """
    name = path.name.lower()
    if name.removesuffix(".gz").endswith(_OTHER_DATA) and not name.endswith(SUFFIXES):
        raise NescioError(
            f"{path}: tables and archives are not read; write a JSON object a line (JSONL), such as "
            '{"prompt": question, "completion": answer}; docs/data.md has an example'
        )
    if path.is_dir():
        yield from enumerate(_saved_rows(path), start=1)
    elif path.suffix.lower() == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
    elif _first_byte(path) == b"[":
        yield from enumerate(_array_rows(path), start=1)
    else:
        yield from read_jsonl(path, refuse, unique_keys=True)


def _first_byte(path: Path) -> bytes:
    with open_utf8(path) as file:
        return file.read(64).lstrip()[:1]


def _saved_rows(path: Path) -> Iterator[Any]:
    datasets = require("datasets", "data", str(path))
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise NescioError(f"{path}: not a dataset saved to disk, or damaged; save it again") from error
    for split in loaded.values() if isinstance(loaded, datasets.DatasetDict) else [loaded]:
        yield from map(_without_nulls, split)


def _parquet_rows(path: Path) -> Iterator[Any]:
    parquet = require("pyarrow.parquet", "data", str(path))
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
            yield from map(_without_nulls, batch.to_pylist())
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise NescioError(f"{path}: not Parquet, or damaged; write the file again") from error


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Drop the columns and slots that a row lacks: a table holds a null for them."""
    row = {name: value for name, value in row.items() if value is not None}
    if isinstance(row.get("pii"), dict):
        row["pii"] = {slot: value for slot, value in row["pii"].items() if value is not None}
    return row


def _array_rows(path: Path) -> Iterator[Any]:
    ijson = require("ijson", "data", str(path))
    with open_utf8(path) as file:
        try:
            yield from ijson.items(_Shallow(file, path), "item", use_float=True)
        except ijson.JSONError as error:
            raise NescioError(f"{path}: not JSON ({first_line(error)}); correct the array") from error


class _Shallow:
    """A JSON file that refuses to be read where it is nested too deep: ijson keeps the path of each open level.

    Args:
        file: JSON, as UTF-8.
        path: Where it is, for the error.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._depth, self._cut = 0, b""  # a piece may end within a string or an escape: its quote and backslash

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            NescioError: They open more than `DEEPEST` arrays and objects within each other.
        """
        piece = self._file.read(size)
        # 1) Leave out escaped characters, then all but quotes and brackets: every other part stands within a string.
        unescaped = (self._cut + piece).replace(rb"\\", b"")
        parts = unescaped.replace(rb"\"", b"").translate(None, _TEXT).split(b'"')
        self._cut = b'"' * (len(parts) % 2 == 0) + b"\\" * unescaped.endswith(b"\\")
        # 2) Count the levels that the brackets open and close.
        steps = map(_STEP.__getitem__, b"".join(parts[::2]))
        depths = list(accumulate(steps, initial=self._depth))
        if max(depths) > DEEPEST:
            raise NescioError(f"{self._path}: nested more than {DEEPEST} deep; write each dialog as one flat object")
        self._depth = depths[-1]
        return piece


_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_TEXT = bytes(set(range(256)) - {*_STEP, ord('"')})
