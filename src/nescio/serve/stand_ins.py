"""Stand-ins for personal data in one answer: the same piece gets the same one, and so do the parts of a name."""

import re
import secrets
from random import Random

from nescio.core.text import fold
from nescio.pii.base import Span

_GIVEN = (
    "Alex", "Blair", "Casey", "Dana", "Eden", "Finley", "Gray", "Harper", "Indigo", "Jules", "Kai", "Lane", "Morgan",
    "Noel", "Oakley", "Parker", "Quinn", "Robin", "Sage", "Tatum", "Uma", "Vale", "Winter", "Yael",
)  # fmt: skip
_FAMILY = (
    "Ashdown", "Birchall", "Calloway", "Denholm", "Eastwick", "Fairburn", "Greenhill", "Hartwell", "Inglewood",
    "Jarrow", "Kingsley", "Langford", "Merriweather", "Northcote", "Oakhurst", "Pemberley", "Quarrington",
    "Ravensworth",    "Silverdale", "Thornbury", "Underhill", "Valemont", "Westbrook", "Yardley",
)  # fmt: skip
_TITLE = re.compile(r"(?:mrs?|ms|dr|prof|sr|st|sir|frau|herr|mme)\.?", re.I)
_WORD = re.compile(r"[^\W\d_](?:[\w.’'-]*[\w])?\.?")
_POSSESSIVE = re.compile(r"['’]s$")


class StandIns:
    """The stand-ins of one answer. Addresses and numbers are of ranges that are reserved for examples.

    Args:
        seed: Of the choice of names; None: chosen at random, so that a name can't be told from its stand-in.
    """

    def __init__(self, seed: int | None = None) -> None:
        random = Random(secrets.randbits(64) if seed is None else seed)
        self._given = random.sample(_GIVEN, len(_GIVEN))
        self._family = random.sample(_FAMILY, len(_FAMILY))
        self._of: dict[tuple[str, str], str] = {}
        self._numbers: dict[str, int] = {}

    def __call__(self, span: Span) -> str:
        """Return the stand-in of a piece."""
        if span.type == "person":
            return self._person(span.text)
        key = (span.type, fold(span.text, ignore_case=True)[0].strip())
        if key not in self._of:
            number = self._numbers[span.type] = self._numbers.get(span.type, 0) + 1
            self._of[key] = _made(span, number)
        return self._of[key]

    def _person(self, name: str) -> str:
        """Replace a name word by word, so that "Anna" is later who "Anna Ferrari" was; titles stay."""
        words = [word for word in _WORD.finditer(name) if not _TITLE.fullmatch(word[0])]
        if not words:
            return "[PERSON]"
        parts, position = list[str](), 0
        for word in words:
            bare = _POSSESSIVE.sub("", word[0])
            is_family = len(words) > 1 and word is words[-1]
            parts += [name[position : word.start()], self._word(bare, is_family)]
            position = word.start() + len(bare)
        return "".join([*parts, name[position:]])

    def _word(self, word: str, is_family: bool) -> str:
        key = ("word of a name", fold(word, ignore_case=True)[0])
        if key not in self._of:
            pool = self._family if is_family else self._given
            free = [one for one in pool if one.casefold() != key[1]]
            made = free[0] if free else f"{(_FAMILY if is_family else _GIVEN)[0]}{len(self._of)}"
            pool[:] = [one for one in pool if one != made]
            self._of[key] = made
        made = self._of[key]
        return made.upper() if len(word) > 1 and word.isupper() else made


def _made(span: Span, number: int) -> str:
    """Return the n-th stand-in of a type; a number in brackets where no made-up one is safe to show."""
    forms = {
        "phone": f"+1 {201 + number // 100}-555-01{number % 100:02d}",  # 555-0100 to 555-0199 belong to nobody
        "email": f"person{number}@example.com",
        "url": f"https://example.com/{number}",
        "ip": f"192.0.2.{number % 256}",  # RFC 5737
        "organisation": f"Company {number}",
        "place": f"Exampleton {number}",
        "address": f"{number} Example Street",
    }
    return forms.get(span.type, f"[{span.label} {number}]")
