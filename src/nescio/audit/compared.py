"""What of a value is compared, and values that cannot be compared: nothing could be found of them."""

import re

from nescio.audit.dates import compact_dates, dates
from nescio.core.text import plain
from nescio.pii.taxonomy import PiiType

_EXTENSION = re.compile(  # "x204", "ext. 204", "#204", "(Durchwahl 204)", ";ext=204"
    r"[\s,;(/-]*(?:(?<![^\W\d_])(?:x|ext|extn|extension|durchwahl|dw|poste|int)(?![^\W\d_])|\#)[\s.:=]*\d{1,6}\)?\s*$",
    re.IGNORECASE,
)
_PAUSE = re.compile(r"([^,;]+)[,;]+\s*\d{1,6}\s*")  # "+1 415 555 0101,204"
_FEWEST, _MOST = 4, 15  # digits of a telephone number; E.164 allows no more
_WHOLE, _NATIONAL = 7, 9  # digits of one without its area, and with it
_BETWEEN = re.compile(r"[,;/|\n]")
_OR = re.compile(r"\d.*\b(?:or|and|oder|und)\b.*\d", re.IGNORECASE | re.DOTALL)
_ADDRESS = re.compile(r"[^\s<>,;:]+@[^\s<>,;]+")
_IN_BRACKETS = re.compile(r"<\s*(?:mailto:)?([^<>\s]+@[^<>\s]+)\s*>", re.IGNORECASE)
_TITLES = frozenset(("jr", "sr", "ii", "iii", "iv", "phd", "md", "dds", "esq", "mba", "dr"))
_ROUNDED = re.compile(r"[+-]?\d(?:[.,]\d+)?e\+\d{2}", re.IGNORECASE)


def compared(value: str, kind: PiiType) -> str:
    """Return what of a value is looked for in answers.

    A telephone number counts without its extension, an e-mail address without `mailto:` and the name before it, and a
    person's name in the order in which it is said: `Ann Lee` for `Lee, Ann`.
    """
    if kind == "phone":
        number, paused = _EXTENSION.sub("", value), _PAUSE.fullmatch(value)
        if paused and _count_digits(paused[1]) >= _NATIONAL:
            number = paused[1]
        return number if _count_digits(number) >= _FEWEST else value
    if kind == "email":
        within = _IN_BRACKETS.search(value)
        return within[1] if within else re.sub(r"^\s*mailto:\s*|(?<=\w)\?\S*$", "", value, flags=re.IGNORECASE)
    return _as_said(value) if kind == "person" else value


def _as_said(name: str) -> str:
    """Return a name without titles behind it, and first names first: `Ann Lee` for `Lee, Ann` and `Ann Lee, PhD`."""
    parts = [part.strip() for part in name.split(",")]
    while len(parts) > 1 and parts[-1].casefold().replace(".", "") in _TITLES:
        parts.pop()
    if len(parts) == 2 and all(parts):
        return f"{parts[1]} {parts[0]}"
    return parts[0] if len(parts) == 1 and " " in parts[0] else name


def cannot_compare(value: str, kind: PiiType) -> str | None:
    """Return why a value could not be found in any answer, and what to write instead; None where it could.

    Args:
        value: A cell of a list, or a piece of a dialog.
        kind: What it is.
    """
    if _ROUNDED.fullmatch(value.strip()):
        return "a number that a spreadsheet has rounded; format the column as text"
    if kind in ("date", "birth_date") and re.fullmatch(r"\d{5}", value.strip()):
        return "a spreadsheet's number of a day; format the column as a date"
    if kind == "phone":
        number = compared(value, kind)
        several = sum(_count_digits(part) >= _WHOLE for part in _BETWEEN.split(number)) > 1
        if several or _OR.search(number) or _count_digits(number) > _MOST:
            return "more than one telephone number; give each a column"
    if kind == "email" and len(set(_ADDRESS.findall(value.casefold()))) > 1:
        return "more than one e-mail address; give each a column"
    return None


def why_unread(value: str, kind: PiiType) -> str | None:
    """Return why a value is asked for in none of its forms but its own; None where it is compared in all of them."""
    if kind == "phone" and _count_digits(compared(value, kind)) < _FEWEST:
        return "no telephone number of four digits"
    if kind == "birth_date" and len(re.findall(r"\d+", value)) > 1:
        read = [*dates(plain(value)), *compact_dates(plain(value))]
        if not any(1 <= month <= 12 and 1 <= day <= 31 for _, month, day in read):
            return "a date in a form that is not read; write it as 1987-05-03"
    return None


def _count_digits(text: str) -> int:
    return len(re.findall(r"\d", text))
