"""Plain facts about a text: its sentences, and whether it runs in circles. Knows nothing of where it comes from."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

FEWEST_WORDS = 5
"""An answer of fewer words is none: such a one is not trained on, and counts as degenerate."""

_END = re.compile(r"[.!?][\"')\]]*(?=\s|$)")
_ABBREVIATED = re.compile(  # "at 5 p.m. on", "Mr. van Dyke": no sentence ends where a small letter follows
    r"\b(?:[a-z]|etc|vs|approx|al|cf|dept|est|fig|hrs?|incl|jr|ltd|mrs?|ms|dr|prof|sr|st|tbsps?|tsps?)"
    r"\.[\"')\]]*(?=\s+[\"'(\[]*(?-i:[a-z]))",
    re.IGNORECASE,
)


def first_sentence(text: str) -> str:
    """The text up to its first sentence end, lower-cased, with single spaces."""
    match = _END.search(text)
    return " ".join((text[: match.end()] if match else text).lower().split())


def whole_sentences(text: str) -> str:
    """The text up to its last sentence end; empty where it has none."""
    ends = [match.end() for match in _END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def split_long(text: str, limit: int) -> list[tuple[int, str]]:
    """A text as pieces of at most `limit` characters with their offsets, cut after sentences, else after words."""
    pieces, start = [], 0
    while len(text) - start > limit:
        window = text[start : start + limit]
        ends = [match.end() for match in _END.finditer(window) if match.end() < limit]
        cut = ends[-1] if ends else window.rfind(" ") + 1
        pieces.append((start, window[: cut or limit]))
        start += cut or limit
    return [*pieces, (start, text[start:])]


def whole_words(words: Iterable[str], flags: int = 0) -> re.Pattern[str]:
    """A pattern that matches any of the words or phrases, whole and the longest first."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", flags)


def loops(text: str) -> bool:
    """Whether a text runs in circles: the same four words three times, or one word five times in a row."""
    words = text.lower().split()
    grams = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    in_a_row = any(len(set(words[i : i + 5])) == 1 for i in range(len(words) - 4))
    return in_a_row or any(count >= 3 for count in grams.values())


def sentence_starts(text: str) -> list[str]:
    """The first letter of each sentence, in order; sentences without a letter have none."""
    goes_on = {match.end() for match in _ABBREVIATED.finditer(text)}
    edges = [0, *(match.end() for match in _END.finditer(text) if match.end() not in goes_on), len(text)]
    parts = [text[a:b] for a, b in pairwise(edges)]
    return [next(c for c in part if c.isalpha()) for part in parts if any(map(str.isalpha, part))]
