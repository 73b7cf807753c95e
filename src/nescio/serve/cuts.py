"""Where an unfinished answer may be cut for a check, so that no piece of personal data lies across the cut."""

import re
import unicodedata
from dataclasses import dataclass

from nescio.core.text import UNSPACED, sure_sentence_end
from nescio.pii.english import SMALL_WORDS

LONGEST = 400
"""Characters that are held back without a cut; then the text is cut at a word, or where the word ends."""

_CLAUSE = 160  # a longer clause is not waited for
_LONGEST_PIECE = 10  # words; a list of capitals or a line of code is longer
_AFTER = 3  # words behind the end of a line that are seen with it
_BESIDE = 2  # plain words on each side of a quiet border
_LINE = re.compile(r"[^\s.!?…。！？][\"')\]]*\s*\n\s*$")  # a line that ends without the mark of a sentence
_GOES_ON = re.compile(r"[a-z\d]")  # "Acme Corp. of Leeds"
_WORDS = re.compile(rf"(?:\S+\s+){{{_AFTER}}}(?=\S)")
_IN_NAMES = frozenset(
    re.findall(r"\w+", "of the and y e et und en von van der den de del della di da do dos das du la le el al")
)
"""Small words that names have inside."""
_SPACE = re.compile(r"\s")
_PHRASE = re.compile(r"[^\s。！？，、；：]+([\s。！？，、；：]*)")  # a word, or a phrase of a script without spaces
_AROUND = ".,;:!?…\"'()[]{}“”‘’«»،؛؟。！？，、；："  # marks beside a word
_INSIDE = "'’-"
_WORD = re.compile(r"\S+\s+(?=\S)")
_PLAIN = re.compile(r"([^\W\d_]+)(?:['’][^\W\d_]+)?[,;:]?\s+")


@dataclass(frozen=True, slots=True)
class Cut:
    """A place to cut.

    Attributes:
        at: Characters that may be sent.
        seen: Characters that the detector has to see for that.
        sure: Whether personal data across the cut has ended there; else the text that follows is waited for.
        breaks_off: Whether what follows the cut may be the beginning of personal data, whose rest never comes.
    """

    at: int
    seen: int
    sure: bool = True
    breaks_off: bool = False


def next_cut(pending: str, after: int = 0, *, first: bool = False) -> Cut | None:
    """Return the first place at which pending text may be cut, or None while there is none.

    It is the end of a sentence; the end of a line, seen with the words that follow, as an address may have several
    lines; or, at the beginning of an answer and in a long sentence, a quiet border. The place depends on the text
    alone, not on how much of it has come.

    Args:
        pending: What was not sent yet.
        after: Places up to here were tried already.
        first: Nothing was sent yet: the reader waits.
    """
    cuts = (_sentence(pending, after), _quiet(pending, max(after + 1, 0 if first else _CLAUSE)))
    if known := [cut for cut in cuts if cut is not None]:
        return min(known, key=lambda cut: cut.seen)
    return _forced(pending) if len(pending) >= LONGEST else None


def last_cut(pending: str) -> Cut:
    """Return the cut of a text that breaks off: what follows it may be a part of a longer piece of personal data.

    That is the last word, and before it all words that are not plain: with a digit, a capital or a mark inside; ten in
    all. Where a script has no small letters, it is the last phrase.
    """
    at = len(pending)
    for match in [*_PHRASE.finditer(pending)][: -_LONGEST_PIECE - 1 : -1]:
        word = match[0].strip().strip(_AROUND)
        is_whole = match.end() < len(pending) or bool(match[1])
        if not (is_whole and word and all(map(_is_small, word))):
            at = match.start()
        elif not word.islower():  # letters that are neither small nor capital
            if match[0].rstrip() != word:
                break
            at = match.start()
        elif word not in _IN_NAMES:
            break
    return Cut(at, len(pending), breaks_off=True)


def _is_small(letter: str) -> bool:
    """Whether a character may stand in a plain word: a letter that is no capital, a vowel sign, or a mark inside."""
    return unicodedata.category(letter) in ("Ll", "Lo", "Lm", "Mn", "Mc") or letter in _INSIDE


def _sentence(pending: str, after: int) -> Cut | None:
    end = sure_sentence_end(pending, LONGEST, after)
    if end is None:
        return None
    if not _LINE.search(pending, 0, end) and not _GOES_ON.match(pending, end):
        return Cut(end, end)
    follows = _WORDS.match(pending, end, LONGEST)
    return Cut(end, follows.end(), sure=False) if follows else None


def _quiet(pending: str, least: int) -> Cut | None:
    """Return the first quiet border at `least` or later: only plain words beside it, with a small one on each side.

    Plain words are in small letters: names, numbers and addresses are written otherwise. Where names are in small
    letters too, the small words are none of them, but for those that names have inside, which stand at no border.
    """
    words = list(_WORD.finditer(pending, 0, LONGEST))
    if not words or words[-1].end() < least:
        return None
    plain = [match[1] if (match := _PLAIN.fullmatch(word[0])) and word[0].islower() else "" for word in words]
    for index in range(_BESIDE, len(words) - _BESIDE + 1):
        sides = plain[index - _BESIDE : index], plain[index : index + _BESIDE]
        is_quiet = all(all(side) and not SMALL_WORDS.isdisjoint(side) for side in sides)
        is_quiet = is_quiet and _IN_NAMES.isdisjoint(plain[index - 1 : index + 1])
        if is_quiet and words[index].start() >= least:
            return Cut(words[index].start(), words[index + _BESIDE - 1].end(), sure=False)
    return None


def _forced(pending: str) -> Cut | None:
    """Return a cut at a word in the first half of what is held back; the other half is checked again with what follows.

    A word that is longer than that, such as a key or a URL, is waited for, unless its script has no spaces.
    """
    if space := pending.rfind(" ", LONGEST // 4, LONGEST // 2) + 1:
        return Cut(space, LONGEST)
    if UNSPACED.search(pending, LONGEST // 4, LONGEST):
        return Cut(LONGEST // 2, LONGEST)
    end = _SPACE.search(pending, LONGEST // 2)
    return Cut(end.end(), max(end.end(), LONGEST)) if end else None
