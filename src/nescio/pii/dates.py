"""Dates in seven languages, of which those of birth are told by the words around them."""

import re
from collections.abc import Iterator

from nescio.pii.taxonomy import type_of_date

_MONTH = (
    r"(?:jan(?:uary|uar|vier|eiro|uari)?|enero|gennaio|feb(?:ruary|ruar|rero|braio|ruari)?|février|fevereiro|mar(?:ch|s|zo|ço|t)?|"
    r"märz|maart|apr(?:il|ile)?|abril|avril|ma[iy]|mayo|maggio|maio|mei|june?i?|juin|junio|giugno|junho|jul[yi]?|juillet|"
    r"julio|luglio|julho|aug(?:ust|ustus)?|août|agosto|sept?(?:ember|iembre|embre)?|settembre|setembro|o[ck]t(?:ober|obre)?|"
    r"ottobre|outubro|octubre|nov(?:ember|embre|iembre|embro)?|de[cz](?:ember|embre|embro)?|d[ée]cembre|diciembre|dicembre)\.?"
)
_DATE = re.compile(
    rf"(?<![\w./-])(?:\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}\s?[-/.]\s?\d{{1,2}}\s?[-/.]\s?(?:\d{{4}}|\d{{2}})"
    rf"|\d{{1,2}}(?:st|nd|rd|th|º|er|\.)?[\s-](?:of\s|de\s|di\s)?{_MONTH}(?:,?[\s-](?:de\s|del\s)?(?:\d{{4}}|['’]\d{{2}}))?"
    rf"|{_MONTH}[\s-](?:the\s)?\d{{1,2}}(?:st|nd|rd|th)?(?:,?[\s-](?:\d{{4}}|['’]\d{{2}}))?|{_MONTH}\s\d{{4}}"
    r"|(?:19|20)\d\d)(?![\w-]|[./]\d)",
    re.IGNORECASE,
)


def birth_dates(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a text has dates of birth."""
    for match in _DATE.finditer(text):
        if type_of_date(text, *match.span()) == "birth_date":
            yield match.span()


def is_date(text: str) -> bool:
    """Whether a text is a date and nothing else; a year alone may be a number."""
    return not text.isdecimal() and _DATE.fullmatch(text) is not None
