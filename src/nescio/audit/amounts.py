"""Sums and counts in texts, however their digits are grouped: 52000, $52,000, 52.000 EUR, 52 000."""

import re
from collections.abc import Iterator

_CODES = ("usd", "eur", "gbp", "chf", "jpy", "cad", "aud", "inr", "sek", "nok", "dkk", "pln")
_CURRENCY = rf"(?:(?:us|a|c)?\$|[€£¥₹]|{'|'.join(_CODES)}|dollars?|euros?|pounds?|yen|kr)"
_FIRST = r"[1-9]\d{0,2}"
_GROUPED = (
    rf"{_FIRST}(?:,\d{{3}})+(?:\.\d{{1,2}})?|{_FIRST}(?:\.\d{{3}})+(?:,\d{{1,2}})?|{_FIRST}(?:'\d{{3}})+(?:[.,]\d{{1,2}})?"
    # With spaces, and no part of a telephone number.
    rf"|(?<!\d )(?<![+(/-]){_FIRST}(?: \d{{3}})+(?:[.,]\d{{1,2}})?(?![ /-]\d)|\d{{4,}}(?:[.,]\d{{1,2}})?"
)
# Whole: no letter or digit beside it but a currency, and no mark with further digits.
_BEFORE = rf"(?:{'|'.join(f'(?<={code})' for code in _CODES)}|(?<![^\W_]))(?<!\d[.,'])"
_AFTER = rf"(?!\d|[.,']\d)(?:(?={_CURRENCY}(?![^\W_]))|(?![^\W_]))"
_AMOUNT = re.compile(rf"{_BEFORE}(?:{_GROUPED}){_AFTER}")
_VALUE = re.compile(rf"{_CURRENCY}?\s?({_GROUPED})\s?{_CURRENCY}?")
_CENTS = re.compile(r"[.,](\d{1,2})$")


def amounts(plain: str) -> Iterator[tuple[int, int, str]]:
    """Yield the numbers of a text from four digits on: start, end, and the digits without their grouping.

    Args:
        plain: A text in lower case, with white space as single spaces.
    """
    for match in _AMOUNT.finditer(plain):
        yield match.start(), match.end(), _digits(match[0])


def amount(plain: str) -> str | None:
    """Return the digits of a text that is a number and nothing else, but for a currency; None where it is none.

    Args:
        plain: As of `amounts`.
    """
    match = _VALUE.fullmatch(plain.strip())
    return _digits(match[1]) if match else None


def _digits(number: str) -> str:
    """Return a number's digits, and those of its cents behind a point unless they are zeros."""
    cents = _CENTS.search(number)
    whole = re.sub(r"\D", "", number[: cents.start()] if cents else number)
    rest = cents[1].rstrip("0") if cents else ""
    return f"{whole}.{rest}" if rest else whole
