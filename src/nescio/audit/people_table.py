"""Rows of a list of people: CSV as spreadsheets write it, or JSON lines."""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nescio.core.encodings import open_utf8
from nescio.core.errors import NescioError
from nescio.core.files import stop
from nescio.data.rows import check_whole, read_rows

_SEPARATOR = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # a first line of Excel's
_QUOTED = re.compile(r'"[^"]*"')
_POINT_ZERO = re.compile(r"([+-]?\d{4,})\.0")  # as data frames write whole numbers


def people_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a list with their lines; a row of CSV is a mapping of column to cell.

    Raises:
        NescioError: The file is missing or damaged, or a row has other columns than the header.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        yield from _csv_rows(path)
    else:
        yield from read_rows(path, stop)


def cell_text(value: Any, place: str) -> str:
    """Return a cell as text; empty where nothing is known.

    Raises:
        NescioError: It is neither a text nor a number, or holds half a character.
    """
    if value is None:
        return ""
    is_whole = isinstance(value, int) and not isinstance(value, bool)  # of any length, which no float holds
    is_number = is_whole or (isinstance(value, float) and math.isfinite(value))
    if not is_number and not isinstance(value, str):
        raise NescioError(f"{place}: must be a text or a number")
    if isinstance(value, str):
        check_whole(value, place, "correct what wrote the file")
    whole = isinstance(value, float) and value.is_integer()
    return _without_point_zero(str(int(value) if whole else value).strip())


def _without_point_zero(text: str) -> str:
    found = _POINT_ZERO.fullmatch(text)
    return found[1] if found else text


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with open_utf8(path) as file:
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise NescioError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    named = _SEPARATOR.match(text)
    text, skipped = text[named.end() if named else 0 :], 1 if named else 0
    header = _QUOTED.sub("", text.partition("\n")[0])
    delimiter = named[1] if named else max(",;\t", key=header.count)
    # Strict: the file's end inside quotation marks is an error.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    ended = 0  # line of the last row that was read
    try:
        names = Counter(name.strip().casefold() for name in reader.fieldnames or ())
        if twice := next((name for name, count in names.items() if count > 1), None):
            raise NescioError(
                f"{path}:{1 + skipped}: column {twice!r} stands there twice; rename one, or only one would count"
            )
        ended = reader.line_num
        if "" in names:
            raise NescioError(f"{path}:{1 + skipped}: a column has no name; name it, or delete it")
        for row in reader:
            ended = reader.line_num
            cells = [cell for value in row.values() for cell in (value if isinstance(value, list) else [value])]
            if not any(cell and cell.strip() for cell in cells):
                continue
            place = f"{path}:{ended + skipped}"
            if None in row or None in row.values():
                raise NescioError(f"{place}: other columns than in the header; quote cells that hold commas")
            if cell := next((cell for cell in cells if "\n" in cell.strip() and delimiter in cell), None):
                raise NescioError(
                    f"{place}: a cell goes on over lines and holds {delimiter!r}: {cell.strip().splitlines()[0]!r}…; "
                    "close its quotation mark, or write it in one line"
                )
            yield ended + skipped, row
    except csv.Error as error:
        raise NescioError(
            f"{path}:{ended + 1 + skipped}: {error}; look for a quotation mark that is not closed"
        ) from error
