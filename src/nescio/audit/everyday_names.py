"""People who are recorded as one everyday word, such as Will: "I will" is nobody's name."""

import re

from nescio.core.text import occurrences
from nescio.evaluation.given_away import names_that_are_words
from nescio.pii.taxonomy import PiiType

_BETWEEN = " \t\r\n\"'“”‘’«»„()[]{}*_#>–—-"  # what may stand between two sentences
_NO_END = re.compile(r"\b(?:dr|mrs?|ms|mx|prof|rev|st|[a-z])\.\Z", re.IGNORECASE)  # a title, or an initial
_NOTHING_ELSE = re.compile(r"[\"'”’»)\]*_]*(?:[.!?…。！？\n]|\Z)")


def is_everyday_name(value: str, kind: PiiType) -> bool:
    """Whether a value is a person's name in one word, which is an everyday word, too."""
    return kind == "person" and value.strip().casefold() in names_that_are_words()


def everyday_name_places(text: str, name: str, before: str = "") -> list[tuple[int, int]]:
    """Return where a text says a name that is an everyday word, too: `(start, end)` for each place, in order.

    It counts with a capital inside a sentence. At a sentence's beginning every word has one, so there it counts only
    where the sentence is nothing else.

    Args:
        text: An answer.
        name: The name.
        before: What the answer goes on from, if it was begun.
    """
    is_shouted = text.isupper()
    return [
        (start, end)
        for start, end in occurrences(text, name, ignore_case=True)
        if text[start].isupper()
        and ((_is_inside(before + text[:start]) and not is_shouted) or _is_alone(before + text[:start], text[end:]))
    ]


def _is_inside(lead: str) -> bool:
    """Whether what stands before a word leaves it inside a sentence."""
    said = lead.rstrip(_BETWEEN)
    is_begun = said and "\n" not in lead[len(said) :]
    return bool(is_begun and (said[-1] not in ".!?…。！？" or _NO_END.search(said)))


def _is_alone(lead: str, rest: str) -> bool:
    """Whether a word is a whole sentence; what an answer goes on from is part of it."""
    return not _is_inside(lead) and _NOTHING_ELSE.match(rest) is not None
