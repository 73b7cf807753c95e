"""Dates in texts, in whatever form they are written."""

import re
from collections.abc import Iterator

Date = tuple[int | None, int, int]
"""Year, month and day; the year is None where none is said."""

_NAMES = (
    "january jan januar janvier enero gennaio januari", "february feb februar fevrier febrero febbraio februari",
    "march mar marz mars marzo maart", "april apr avril abril aprile", "may mai mayo maggio mei",
    "june jun juni juin junio giugno", "july jul juli juillet julio luglio", "august aug aout agosto augustus",
    "september sep sept septembre septiembre settembre", "october oct oktober octobre octubre ottobre",
    "november nov novembre noviembre", "december dec dezember decembre diciembre dicembre",
)  # fmt: skip
_MONTHS = {name: number for number, names in enumerate(_NAMES, start=1) for name in names.split()}

_ORDINAL = r"(\d{1,2})(?:st|nd|rd|th|\.)?"
_THEN_YEAR = r"(?:[\s,.]*(?:of\s+|de\s+)?('?\d{2}|\d{4})\b)?"
_DAY_FIRST = re.compile(rf"\b{_ORDINAL}\s+(?:of\s+|de\s+)?([^\W\d_]+)\.?{_THEN_YEAR}")
_MONTH_FIRST = re.compile(rf"\b([^\W\d_]+)\.?\s+{_ORDINAL}(?!\d){_THEN_YEAR}")
# The same mark on both sides: "03-May-87"; in "3 May - 12 June" the second number is no year.
_NAMED_DAY_FIRST = re.compile(r"\b(\d{1,2})([-/.])([^\W\d_]+)(?:\2('?\d{2}|\d{4}))?\b(?!\2\d)")
_NAMED_MONTH_FIRST = re.compile(r"\b([^\W\d_]+)([-/.])(\d{1,2})\2(\d{4})\b")
_NAMED_YEAR_FIRST = re.compile(r"\b(\d{4})([-/.])([^\W\d_]+)\2(\d{1,2})\b")
_YEAR_FIRST = re.compile(r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:\b|(?=t\d))")  # "t" begins a time
_YEAR_LAST = re.compile(r"\b(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})\b")
_SPACED_YEAR_LAST = re.compile(r"\b(\d{1,2})(?:\.\s|\s?[-/.]\s)(\d{1,2})\s?[-/.]\s?(\d{4})\b")  # "3. 5. 1987"
_CJK = re.compile(r"(?<!\d)(\d{4})年\s?(\d{1,2})月\s?(\d{1,2})日")
_COMPACT = re.compile(  # a whole number: no letter or digit beside it, nor digits behind one mark
    r"(?<![a-z\d])(?<!\d[\W_])((?:19|20)\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?![a-z\d]|[\W_]\d)"
)
_CENTURY = 30  # two figures above it are of the twentieth


def dates(plain: str) -> Iterator[Date]:
    """Yield the dates in a text; one of figures alone that can be read in two ways is read in both.

    Args:
        plain: A text in lower case, without accents. Months are read in English, German, French, Spanish, Italian and
            Dutch.
    """
    for day, month, year in _DAY_FIRST.findall(plain):
        if month in _MONTHS:
            yield _year(year), _MONTHS[month], int(day)
    for month, day, year in _MONTH_FIRST.findall(plain):
        if month in _MONTHS:
            yield _year(year), _MONTHS[month], int(day)
    for day, _, month, year in _NAMED_DAY_FIRST.findall(plain):
        if month in _MONTHS:
            yield _year(year), _MONTHS[month], int(day)
    for month, _, day, year in _NAMED_MONTH_FIRST.findall(plain):
        if month in _MONTHS:
            yield int(year), _MONTHS[month], int(day)
    for year, _, month, day in _NAMED_YEAR_FIRST.findall(plain):
        if month in _MONTHS:
            yield int(year), _MONTHS[month], int(day)
    for year, month, day in (*_YEAR_FIRST.findall(plain), *_CJK.findall(plain)):
        yield int(year), int(month), int(day)
    for one, other, year in (*_YEAR_LAST.findall(plain), *_SPACED_YEAR_LAST.findall(plain)):
        yield _year(year), int(one), int(other)
        yield _year(year), int(other), int(one)


def compact_dates(plain: str) -> Iterator[Date]:
    """Yield the whole numbers of a text that are dates if one looks for dates: 19870503.

    Args:
        plain: A text in lower case.
    """
    for year, month, day in _COMPACT.findall(plain):
        yield int(year), int(month), int(day)


def _year(text: str) -> int | None:
    figures = text.removeprefix("'")
    if len(figures) != 2:
        return int(figures) if figures else None
    return int(figures) + (1900 if int(figures) > _CENTURY else 2000)
