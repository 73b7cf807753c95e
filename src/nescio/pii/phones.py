"""Telephone numbers of many countries, by their grouping and by the words before them."""

import re
from collections.abc import Iterator

from nescio.pii.called import Called, called

_CANDIDATE = re.compile(
    r"(?<![\w./:@#$€£+-])(?<!\d[^\S\n])(?<!\d,)(?:tel:)?(?:\+\s?|00\s?)?\(?\+?\d(?:(?:[().–/-]|[^\S\n]){0,3}\d){5,16}"
    r"(?:[\s,;]{0,2}(?:x|ext\.?|extension|durchwahl|poste|int\.?)\s?\d{1,6}\b)?(?![\w@%]|[-/]\d|[.,:]\d)",
    re.IGNORECASE,
)
_EXTENSION = re.compile(r"[\s,;]{0,2}(?:x|ext|poste|durchwahl|int)", re.IGNORECASE)
_DATE = re.compile(r"\(?(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))(?!\d)")
_NORTH_AMERICAN = re.compile(r"(?:1[\s.-]?)?(?:\(\d{3}\)\s?|\d{3}[\s./-])\d{3}[\s.-]?\d{4}$")
_AREA = re.compile(r"\(\+?\d{1,5}\)[\s./-]?\d")  # an area's code in parentheses
_TRUNK = re.compile(r"0[1-9]")


def phones(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a text has telephone numbers.

    A number in an international or a North American form, or with its area in parentheses, is one, unless it is
    called something else, such as an order. Others must begin with the trunk's 0, or be called a number to dial.
    """
    for match in _CANDIDATE.finditer(text):
        start, end = match.span()
        start += match[0].startswith("(") and ")" not in match[0]  # a number in parentheses of the sentence
        if _is_phone(text[start:end], called(text, start)):
            yield start, end


def _is_phone(candidate: str, name: Called | None) -> bool:
    number = _EXTENSION.split(candidate.removeprefix("tel:"), maxsplit=1)[0]
    digits, groups = re.sub(r"\D", "", number), re.findall(r"\d+", number)
    balanced = number.count("(") == number.count(")")
    if not balanced or not 7 <= len(digits) <= 15 or len(set(digits)) < 3 or _DATE.fullmatch(number):
        return False
    if number.startswith(("+", "(+")):
        return True
    if name:
        return name == "phone" and max(map(len, groups)) >= 2
    if number.startswith("00"):
        return len(digits) >= 11
    trunk = bool(_TRUNK.match(digits)) and (
        (9 <= len(digits) <= 12 and not re.search(r"\d\.\d", number)) or (len(digits) == 10 and len(groups) == 5)
    )
    area = bool(_AREA.match(number)) and len(digits) >= 8
    return trunk or area or bool(_NORTH_AMERICAN.match(number)) or (len(digits) == 7 and groups[0] == "555")
