"""Facts about a text: where its sentences end, whether it loops, and where it says a value in any Unicode form."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

FEWEST_WORDS = 5
"""A shorter answer, in words, is not trained on, and counts as degenerate."""

_THAI, _CJK = r"\u0e00-\u0eff", r"\u3040-\u30ff\u3400-\u9fff"
UNSPACED = re.compile(f"[{_THAI}{_CJK}]")  # scripts that put no spaces between words
SYLLABLES = re.compile(f"[{_CJK}\uac00-\ud7a3]+")
"""Han, Kana and Hangul, in composed form: two characters may be a whole name."""
_ABOUT_A_WORD = re.compile(f"[{_THAI}]{{1,4}}|[{_CJK}]{{1,2}}")
# An underscore is no part of a word: Markdown writes "_Ann_".
_NO_LETTER_BEFORE, _NO_LETTER_AFTER = r"(?<![^\W_])", r"(?![^\W_])"
_CLOSERS = r"[\"')\]]*"  # what may stand between a mark and the white space after it
_WIDE = "[。！？]+"  # marks of scripts that put no white space after them
_END = re.compile(rf"[.!?…]{_CLOSERS}(?=\s|$)|{_WIDE}")
# Nothing ends after a word of up to three letters, such as "Dr." or "J."; a line's end is an end.
_SURE_END = re.compile(rf"(?:(?<=[^\W\d_]{{4}})\.|[!?…]){_CLOSERS}\s+(?=\S)|\n\s*(?=\S)|{_WIDE}(?=[^。！？])")
_ABBREVIATED = re.compile(  # "at 5 p.m. on", "Mr. van Dyke": no sentence ends where a small letter follows
    r"\b(?:[a-z]|etc|vs|approx|al|cf|dept|est|fig|hrs?|incl|jr|ltd|mrs?|ms|dr|prof|sr|st|tbsps?|tsps?)"
    r"\.[\"')\]]*(?=\s+[\"'(\[]*(?-i:[a-z]))",
    re.IGNORECASE,
)

# The number of a list, and a title before a name, begin a sentence.
_BEGINNING = re.compile(r"\A[\s*_#>-]*\d{1,2}\.(?=\s)|\b(?:dr|mrs?|ms|mx|prof|rev)\.(?=\s+[^\W\d_])", re.IGNORECASE)


def sentence_ends(text: str) -> list[int]:
    """Return the offset behind each sentence; "5 p.m. on" and "Mr. van Dyke" have no sentence end."""
    goes_on = {match.end() for match in _ABBREVIATED.finditer(text)}
    return [match.end() for match in _END.finditer(text) if match.end() not in goes_on]


def sure_sentence_end(text: str, limit: int, start: int = 0) -> int | None:
    """Return the offset at which the second sentence of an unfinished text begins, or None while that is unsure.

    A sentence has ended for sure where the next text has begun: "3." may go on as "3.5". A mark after a word of up to
    three letters, such as "Dr." or "J.", ends none.

    Args:
        text: What is there so far.
        limit: Number of characters that are looked at.
        start: Where to begin; ends before it do not count.
    """
    match = _SURE_END.search(text, start, limit)
    return match.end() if match else None


def first_sentence(text: str) -> str:
    """Return the text up to its first sentence end, lower-cased, with single spaces; "1." and "Dr." are none."""
    begins = {match.end() for match in _BEGINNING.finditer(text)}
    end = next((end for end in sentence_ends(text) if end not in begins), len(text))
    return " ".join(text[:end].lower().split())


def opening(text: str) -> str:
    """Return the first four words of a text, lower-cased."""
    return " ".join(text.lower().split()[:4])


def whole_sentences(text: str) -> str:
    """Return the text up to its last sentence end; empty where it has none."""
    ends = sentence_ends(text)
    return text[: ends[-1]] if ends else ""


def split_long(text: str, limit: int) -> list[tuple[int, str]]:
    """Split a text into pieces of at most `limit` characters, with offsets: after sentences, else lines, else words."""
    pieces, start = [], 0
    while len(text) - start > limit:
        window = text[start : start + limit]
        ends = [end for end in sentence_ends(window) if end < limit]
        cut = ends[-1] if ends else window.rfind("\n") + 1 or window.rfind(" ") + 1
        pieces.append((start, window[: cut or limit]))
        start += cut or limit
    return [*pieces, (start, text[start:])]


_SAME_IN_A_ROW = re.compile(r"([^\W_]\S{0,5}?)\1{4,}")  # one to six characters, five times or more
_LONG = 20  # characters of a stuck number; "1000000000000" and "hahaha" are shorter
_WORD = re.compile(r"[^\W_](?:[^\s–—-]*[^\W_])?")  # "2022-2023" is two; "11.11" and "li>Tea</li" are one
_MOST_REPEATED = 1 / 3  # of a text's three-word runs; 38 words of documentation or code never have as many
_FEWEST_REPEATED = 3  # runs: "0000-0000-0000-0000" has one


def count_words(text: str) -> int:
    """Count the words of a text; in scripts without spaces two characters are one, in Thai and Lao four."""
    return len(_ABOUT_A_WORD.sub(r" \g<0>", text).split())


def bare_words(text: str) -> list[str]:
    """Return the words of a text in order, lower-cased and without punctuation, where a list's "-" is no word.

    In scripts without spaces each character is one.
    """
    return _WORD.findall(UNSPACED.sub(r" \g<0> ", text.lower()))


def loops(text: str) -> bool:
    """Whether a text repeats itself.

    It does with the same four words three times, one word five times in a row, a stuck number such as "666666…", or
    where more than a third of its three-word runs came before (seq-rep-3 of arXiv 1908.04319): "A is B, and A is B."
    In scripts without spaces, such a run is six characters.
    """
    words = text.lower().split()
    grams = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    in_a_row = any(len(set(words[i : i + 5])) == 1 for i in range(len(words) - 4))
    is_stuck = any(len(match[0]) >= _LONG for match in _SAME_IN_A_ROW.finditer(text))
    bare = bare_words(text)
    length = 6 if 2 * len(UNSPACED.findall(text)) > len(bare) else 3
    runs = list(zip(*(bare[at:] for at in range(length)), strict=False))
    repeated = len(runs) - len(set(runs))
    says_again = repeated >= _FEWEST_REPEATED and repeated > _MOST_REPEATED * len(runs)
    return in_a_row or is_stuck or says_again or any(count >= 3 for count in grams.values())


# What stands between the digits of one number, as in "(415) - 555-0101"; "2013, 20" and "2013. 20" are two.
_MARK = r"(?:(?![,;:.!?]\s)[\W_])"
_MARKS = rf"{_MARK}{{0,5}}"
_LONE_DIGITS = re.compile(rf"(?<!\d)\d(?:{_MARK}{{1,3}}\d(?!\d))+")


def join_digits(text: str) -> str:
    """Join digits that stand alone, as in a number that is spelled out: "4 1 5" is "415"."""
    return _LONE_DIGITS.sub(lambda run: re.sub(r"\D", "", run[0]), text)


def marked(number: str) -> str:
    """Return a pattern of a number's digits, or an identifier's digits and letters, with any marks between them.

    It has no border: without one, half of a longer number and a stuck one match, too.
    """
    return _MARKS.join(number)


def numbers_in(text: str) -> list[str]:
    """Return the digits of each number in a text, whatever marks stand between them."""
    return [re.sub(r"\D", "", number) for number in re.findall(rf"\d(?:{_MARKS}\d)*", text)]


def sentence_starts(text: str) -> list[str]:
    """Return the first letter of each sentence, in order; sentences without a letter have none."""
    edges = [0, *sentence_ends(text), len(text)]
    parts = [text[a:b] for a, b in pairwise(edges)]
    return [next(c for c in part if c.isalpha()) for part in parts if any(map(str.isalpha, part))]


_LOOKALIKES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u02b9\u2032\u0060\u00b4\uff07", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-")
)
# Korean has spaces, but none between a name and its particle. `fold` takes its syllables apart into letters (jamo).
_NO_BORDER = re.compile(rf"{UNSPACED.pattern}|[\u1100-\u11ff\uac00-\ud7a3]")


@lru_cache(maxsize=64)
def fold(text: str, ignore_case: bool = False) -> tuple[str, Sequence[int]]:
    """Fold a text so that the same words compare equal, whatever Unicode form they are written in.

    Characters are decomposed (NFKD); digits, quotes and hyphens become ASCII's; white space becomes single spaces;
    characters without a width of their own (zero-width space, soft hyphen, direction marks) are dropped.

    Returns:
        The folded text, and for each of its characters the index of the character it comes from.
    """
    characters, origins = list[str](), list[int]()
    for index, character in enumerate(text):
        if unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f":
            continue
        for part in unicodedata.normalize("NFKD", character.translate(_LOOKALIKES)):
            letter = " " if part.isspace() else str(unicodedata.decimal(part)) if part.isdecimal() else part
            if letter == " " and characters and characters[-1] == " ":
                continue
            for folded in letter.casefold() if ignore_case else letter:
                if ignore_case and folded == "\u0307" and characters[-1:] == ["i"]:  # "İ" is "i" in Turkish
                    continue
                characters.append(folded)
                origins.append(index)
    return "".join(characters), origins


def folded(text: str) -> str:
    """Return the form of a text to compare: the same in any case, Unicode form and spacing."""
    return fold(text, ignore_case=True)[0].strip()


def plain(text: str) -> str:
    """Fold a text, and drop its accents."""
    return "".join(letter for letter in fold(text, ignore_case=True)[0] if not unicodedata.combining(letter))


def occurrences(text: str, value: str, *, whole_words: bool = True, ignore_case: bool = False) -> list[tuple[int, int]]:
    """Find where a text says a value, in any Unicode form and spacing.

    Args:
        text: Where to look.
        value: What to look for; nothing is found for an empty one.
        whole_words: Not inside a longer word: "because" does not say "US". Scripts without spaces have no such border,
            nor has Korean, where a particle follows its word at once.
        ignore_case: "ANNA" says "Anna".

    Returns:
        `(start, end)` of each place in the text, in order, without overlaps.
    """
    if text.isascii() and value.isascii() and "`" not in text + value:  # nothing to fold
        pattern = r"\s+".join(map(re.escape, value.split()))
        if not pattern:
            return []
        border = (_NO_LETTER_BEFORE, _NO_LETTER_AFTER) if whole_words else ("", "")
        found = re.finditer(f"{border[0]}{pattern}{border[1]}", text, re.IGNORECASE if ignore_case else 0)
        return [match.span() for match in found]
    wanted = fold(value, ignore_case)[0].strip()
    if not wanted:
        return []
    folded, origins = fold(text, ignore_case)
    places = []
    start = folded.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        joined = whole_words and (_joins(folded, start) or _joins(folded, end))
        # A mark belongs to the letter before it: "Jose" is not said by "Jose" with an accent.
        if not joined and not _is_mark(folded[end : end + 1]):
            places.append((origins[start], origins[end - 1] + 1))
        start = folded.find(wanted, start + 1 if joined else end)
    return places


def said_places(text: str, value: str) -> list[tuple[int, int]]:
    """Find where a text says a known piece of personal data, as `occurrences` does, in small letters or capitals.

    A single word of letters counts as it is written, in capitals, or with a capital in front: to whoever recorded
    "Rose", a "rose" is no name; to whoever recorded "rose", "Rose" is one.
    """
    if len(value.split()) > 1 or not value.isalpha():
        return occurrences(text, value, ignore_case=True)
    written = {value, value.upper(), value.capitalize()}
    return sorted({place for each in written for place in occurrences(text, each)})


def _joins(text: str, at: int) -> bool:
    """Whether the characters on both sides of a place belong to one word."""
    last = at - 1
    while last > 0 and unicodedata.combining(text[last]):
        last -= 1
    both = text[last : last + 1] + text[at : at + 1] if at else ""
    return bool(re.fullmatch(r"[^\W_]{2}", both)) and not _NO_BORDER.search(both)


def _is_mark(character: str) -> bool:
    """Whether a character of a folded text belongs to what is before it; the vowels and ends of Hangul syllables do."""
    return "\u1160" <= character <= "\u11ff" or bool(unicodedata.combining(character or " "))
