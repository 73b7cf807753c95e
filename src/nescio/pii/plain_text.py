"""The plain form of a text, which detectors read: no invisible characters, no escapes, ASCII digits, valid Unicode."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_INVISIBLE = "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff"
_SPACES = "\u00a0\u2000-\u200a\u202f\u205f\u3000"
_HYPHENS = "\u2010\u2011\u2212\ufe63"  # dashes between words stay
_MARKS = "\u0300-\u036f"
_FONTS = "\uff01-\uff5e\U0001d400-\U0001d7ff"  # full-width and mathematical letters
_HALVES = "\ud800-\udfff"  # of surrogate pairs, which JSON may hold alone and no library encodes
_ODD = re.compile(f"[{_INVISIBLE}{_SPACES}{_HYPHENS}{_MARKS}{_FONTS}{_HALVES}]|(?![0-9])\\d")
_ESCAPE = r"\\u(?![dD][89a-fA-F])[\da-fA-F]{4}"  # of JSON that is a part of a text, or breaks off
_CHARACTER = re.compile(f"({_ESCAPE}|.)[{_MARKS}]*", re.DOTALL)  # with the marks on it
_ALIKE = (
    (re.compile(f"[{_INVISIBLE}]"), ""),
    (re.compile(f"[{_SPACES}]"), " "),
    (re.compile(f"[{_HYPHENS}]"), "-"),
    (re.compile(f"[{_HALVES}]"), "\N{REPLACEMENT CHARACTER}"),
)


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text's plain form, and where its characters stand in the text.

    Attributes:
        text: The plain form.
        starts: Where each of its characters begins in the text; empty where both are the same.
        ends: Where each of them ends.
    """

    text: str
    starts: Sequence[int] = ()
    ends: Sequence[int] = ()

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return where a non-empty part of the plain form stands in the text."""
        return (self.starts[start], self.ends[end - 1]) if self.starts else (start, end)


def plain_text(text: str) -> PlainText:
    """Return the plain form of a text; most texts are their own."""
    if "\\u" not in text and (text.isascii() or not _ODD.search(text)):
        return PlainText(text)
    characters, starts, ends = list[str](), list[int](), list[int]()
    for match in _CHARACTER.finditer(text):
        escaped = len(match[1]) > 1
        for character in _plain(chr(int(match[1][2:], 16)) + match[0][len(match[1]) :] if escaped else match[0]):
            characters.append(character)
            starts.append(match.start())
            ends.append(match.end())
    return PlainText("".join(characters), starts, ends)


def _plain(character: str) -> str:
    if not _ODD.search(character):
        return character
    for alike, plain in _ALIKE:
        character = alike.sub(plain, character)
    digits = "".join(str(unicodedata.decimal(part)) if part.isdecimal() else part for part in character)
    return unicodedata.normalize("NFKC" if re.search(f"[{_FONTS}]", digits) else "NFC", digits)
