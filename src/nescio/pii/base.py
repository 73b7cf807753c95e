"""What a detector is, and what is done with the spans that it finds: merging and masking."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from nescio.core.text import split_long
from nescio.pii.plain_text import plain_text
from nescio.pii.taxonomy import STRUCTURED, PiiType, type_of

IGNORED_LABELS = ("CARDINAL", "DATE", "PRODUCT", "ORDINAL")
"""NER labels that do not count as personal data (paper, section 2.2)."""

LONGEST_TEXT = 20_000
"""Longer texts, in characters, are looked at in pieces: recognisers take memory by the text, and refuse long ones."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of personal data: `text[start:end]` of the text it was found in, in characters.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        label: The detector's own word for what it is.
        text: The piece.
        type: What it is in the taxonomy; None: the label's type.
    """

    start: int
    end: int
    label: str
    text: str
    type: PiiType = None  # type: ignore[assignment]  # never None once it is made

    def __post_init__(self) -> None:
        if self.type is None:
            object.__setattr__(self, "type", type_of(self.label))


class Detector(Protocol):
    """Finds personal data in texts."""

    name: str

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""


def find_behind(detector: Detector, beginnings: Iterable[str], texts: Sequence[str]) -> list[list[Span]]:
    """Find spans of texts, also of what they are behind others: a date behind "She was born on" is a date of birth.

    Args:
        detector: Finds them.
        beginnings: What stands before each text; it adds to what is found and takes nothing away. Empty: nothing.
        texts: What is looked at.

    Returns:
        The spans of each text. Of one that starts before the text the rest counts if it tells by itself: no "'s".
    """
    heads = [
        f"{beginning} " if beginning[-1:].isalnum() and text[:1].isalnum() else beginning
        for beginning, text in zip(beginnings, texts, strict=True)
    ]
    found = list(detector.find(texts))
    begun = [number for number, head in enumerate(heads) if head]
    for number, spans in zip(begun, detector.find([heads[at] + texts[at] for at in begun]), strict=True):
        head, text = len(heads[number]), texts[number]
        rests = (_rest(span, head, text) for span in spans if span.end > head)
        found[number] = merge([*found[number], *filter(None, rests)], text)
    return found


def _rest(span: Span, head: int, text: str) -> Span | None:
    """Return what a span of head and text has of the text; None where that tells nothing."""
    start, end = max(span.start - head, 0), span.end - head
    piece = text[start:end].lstrip()
    tells = span.start >= head or any(letter.isalnum() and not letter.islower() for letter in piece)
    return replace(span, start=end - len(piece), end=end, text=piece) if piece and tells else None


def find_in_pieces(
    texts: Sequence[str], find: Callable[[list[str]], Iterable[list[Span]]], longest: int | None = None
) -> list[list[Span]]:
    """Find spans in the plain form of texts of any length, and return them as spans of the texts.

    Long texts are split at sentence ends, or else at line ends.

    Args:
        texts: The texts.
        find: Yields the spans of each text that it is given.
        longest: Most characters of those; None: `LONGEST_TEXT`.
    """
    plain = [plain_text(text) for text in texts]
    pieces = [
        (index, *piece) for index, form in enumerate(plain) for piece in split_long(form.text, longest or LONGEST_TEXT)
    ]
    found: list[list[Span]] = [[] for _ in texts]
    for (index, offset, _), spans in zip(pieces, find([piece for _, _, piece in pieces]), strict=True):
        for span in spans:
            start, end = plain[index].place(span.start + offset, span.end + offset)
            found[index].append(replace(span, start=start, end=end, text=texts[index][start:end]))
    return found


def merge(spans: Iterable[Span], text: str, *, across_spaces: bool = False) -> list[Span]:
    """Merge spans that share characters; label and type are those of the longest.

    A name or a place that overlaps something whose form tells it, such as an e-mail address, is cut: both stay.

    Args:
        spans: Spans of the text, in any order.
        text: The text they were found in.
        across_spaces: Also merge spans that have only white space, or nothing, between them.
    """
    found = list(spans)
    firm = _joined((span for span in found if span.type in STRUCTURED), text)
    others = _joined((span for span in found if span.type not in STRUCTURED), text)
    if firm and others:
        starts, ends = [span.start for span in firm], [span.end for span in firm]
        others = [
            rest
            for span in others
            for rest in _outside(span, firm[bisect_right(ends, span.start) : bisect_left(starts, span.end)], text)
        ]
    apart = sorted([*firm, *others], key=lambda span: span.start)
    return _joined(apart, text, across_spaces) if across_spaces else apart


def _joined(spans: Iterable[Span], text: str, across_spaces: bool = False) -> list[Span]:
    joined: list[Span] = []
    longest = 0
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        last = joined[-1] if joined else None
        length = span.end - span.start
        if last and (span.start < last.end or (across_spaces and not text[last.end : span.start].strip())):
            end = max(last.end, span.end)
            told = span if length > longest else last
            joined[-1] = Span(last.start, end, told.label, text[last.start : end], told.type)
            longest = max(longest, length)
        else:
            joined.append(span)
            longest = length
    return joined


def _outside(span: Span, firm: Sequence[Span], text: str) -> Iterable[Span]:
    """Yield what a span has outside of those that it overlaps, without the white space and marks at its ends."""
    if not firm:
        yield span
        return
    edges = [(span.start, span.start), *((one.start, one.end) for one in firm), (span.end, span.end)]
    for (_, left), (right, _) in pairwise(edges):
        start, end = max(left, span.start), min(right, span.end)
        match = re.search(r"\w.*\w|\w", text[start:end], re.DOTALL) if start < end else None
        if match:
            start, end = start + match.start(), start + match.end()
            yield Span(start, end, span.label, text[start:end], span.type)


def mask(text: str, spans: Iterable[Span], mark: str | None = None) -> str:
    """Replace each span by a mark, overlapping ones by one: "Ask Ann." becomes "Ask [PERSON]."

    Args:
        text: The text the spans were found in.
        spans: In any order.
        mark: The replacement; None: the span's label in brackets.
    """
    return mask_with_places(text, spans, mark)[0]


def mask_with_places(text: str, spans: Iterable[Span], mark: str | None = None) -> tuple[str, list[Span]]:
    """Mask a text as `mask` does; return with it where the marks are in the masked text."""
    parts, marks, position, length = list[str](), list[Span](), 0, 0
    for span in merge(spans, text):
        before, shown = text[position : span.start], f"[{span.label}]" if mark is None else mark
        start = length + len(before)
        length = start + len(shown)
        parts += [before, shown]
        marks.append(Span(start, length, span.label, shown, span.type))
        position = span.end
    return "".join([*parts, text[position:]]), marks
