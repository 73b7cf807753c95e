"""Where an unfinished answer may be cut for a check, so that no piece of personal data lies across the cut."""

import re
from dataclasses import dataclass
from itertools import pairwise

from nescio.core.text import sure_sentence_end

LONGEST = 400
"""Most characters held back without a cut; then the text is cut at a word."""

_LARGEST = 160  # a longer clause is not waited for
_BEFORE, _AFTER = 2, 3  # plain words that a quiet border has on each side
_LINE = re.compile(r"[^\s.!?…。！？][\"')\]]*\s*\n\s*$")  # a line that ends without the mark of a sentence
_WORDS = re.compile(rf"(?:\S+\s+){{{_AFTER}}}(?=\S)")
_WORD = re.compile(r"\S+\s+(?=\S)")
_PLAIN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?[,;:]?\s+")


@dataclass(frozen=True, slots=True)
class Cut:
    """A place to cut.

    Attributes:
        at: Characters that may be sent.
        seen: Characters that the detector has to see for that.
        sure: Whether personal data across the cut has ended there; else the text that follows is waited for.
    """

    at: int
    seen: int
    sure: bool = True


def next_cut(pending: str, sent: int, after: int = 0) -> Cut | None:
    """Return the first place at which pending text may be cut, or None while there is none.

    It is the end of a sentence; the end of a line, seen with the words that follow, since an address may have several
    lines; or a quiet border, which has only plain words around it, in small letters: names, numbers and addresses are
    written otherwise. The first clause may be short, so that an answer begins early; later ones are as long as what was
    sent, up to a limit, so that long answers are not checked word by word. The place depends on the text alone, not on
    how much of it has come.

    Args:
        pending: What was not sent yet.
        sent: Characters of the answer that were sent.
        after: Places up to here were tried already.
    """
    cuts = (_sentence(pending, after), _quiet(pending, max(min(sent, _LARGEST), after + 1)))
    if known := [cut for cut in cuts if cut is not None]:
        return min(known, key=lambda cut: cut.seen)
    if len(pending) < LONGEST:
        return None
    # The second half is checked again with the text that follows, so a name across this cut is seen whole.
    return Cut(pending.rfind(" ", LONGEST // 4, LONGEST // 2) + 1 or LONGEST // 2, LONGEST)


def _sentence(pending: str, after: int) -> Cut | None:
    """Return the first end of a sentence or a line."""
    end = sure_sentence_end(pending, LONGEST, after)
    if end is None or not _LINE.search(pending, 0, end):
        return None if end is None else Cut(end, end)
    follows = _WORDS.match(pending, end, LONGEST)
    return Cut(end, follows.end(), sure=False) if follows else None


def _quiet(pending: str, least: int) -> Cut | None:
    """Return the first quiet border that lies at `least` or later."""
    words = list(_WORD.finditer(pending, 0, LONGEST))
    plain = [bool(_PLAIN.fullmatch(word[0])) and word[0].islower() for word in words]
    # What precedes the first word was cut at a sentence's end or at a quiet border.
    for index, (word, _) in enumerate(pairwise(words)):
        around = plain[max(0, index + 1 - _BEFORE) : index + 1 + _AFTER]
        if word.end() >= least and index + _AFTER < len(words) and all(around):
            return Cut(word.end(), words[index + _AFTER].end(), sure=False)
    return None
