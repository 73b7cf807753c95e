"""What a detector is, and what is done with the spans that it finds: merging and masking."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from nescio.core.text import split_long
from nescio.pii.taxonomy import PiiType, type_of

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


def find_in_pieces(texts: Sequence[str], find: Callable[[list[str]], Iterable[list[Span]]]) -> list[list[Span]]:
    """Find spans in texts of any length: long ones are split at sentence ends, and their spans moved back in place."""
    pieces = [(index, *piece) for index, text in enumerate(texts) for piece in split_long(text, LONGEST_TEXT)]
    found: list[list[Span]] = [[] for _ in texts]
    for (index, offset, _), spans in zip(pieces, find([piece for _, _, piece in pieces]), strict=True):
        found[index] += [replace(span, start=span.start + offset, end=span.end + offset) for span in spans]
    return found


def merge(spans: Iterable[Span], text: str, *, across_spaces: bool = False) -> list[Span]:
    """Merge spans that share characters; the label is that of the first, the longest of those that start there.

    Args:
        spans: Spans of the text, in any order.
        text: The text they were found in.
        across_spaces: Also merge spans that have only white space, or nothing, between them.
    """
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        last = merged[-1] if merged else None
        if last and (span.start < last.end or (across_spaces and not text[last.end : span.start].strip())):
            end = max(last.end, span.end)
            merged[-1] = Span(last.start, end, last.label, text[last.start : end])
        else:
            merged.append(span)
    return merged


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
        marks.append(Span(start, length, span.label, shown))
        position = span.end
    return "".join([*parts, text[position:]]), marks
