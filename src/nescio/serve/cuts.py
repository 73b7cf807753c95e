"""Where an unfinished answer may be cut for a check, so that no piece of personal data lies across the cut."""

import re
from dataclasses import dataclass

from nescio.core.text import sure_sentence_end

LONGEST = 400
"""Most characters held back without a cut; then the text is cut at a word."""

_AFTER = 3  # words behind the end of a line that are seen with it
_LINE = re.compile(r"[^\s.!?…。！？][\"')\]]*\s*\n\s*$")  # a line that ends without the mark of a sentence
_WORDS = re.compile(rf"(?:\S+\s+){{{_AFTER}}}(?=\S)")


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


def next_cut(pending: str, after: int = 0) -> Cut | None:
    """Return the first place at which pending text may be cut, or None while there is none.

    It is the end of a sentence, or the end of a line seen with the words that follow, as an address may have several
    lines. The place depends on the text alone, not on how much of it has come.

    Args:
        pending: What was not sent yet.
        after: Places up to here were tried already.
    """
    end = sure_sentence_end(pending, LONGEST, after)
    if end is not None and not _LINE.search(pending, 0, end):
        return Cut(end, end)
    if end is not None and (follows := _WORDS.match(pending, end, LONGEST)):
        return Cut(end, follows.end(), sure=False)
    if len(pending) < LONGEST:
        return None
    # The second half is checked again with the text that follows, so a name across this cut is seen whole.
    return Cut(pending.rfind(" ", LONGEST // 4, LONGEST // 2) + 1 or LONGEST // 2, LONGEST)
