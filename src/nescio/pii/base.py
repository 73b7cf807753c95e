"""What a detector is: whoever needs to know what is personal asks one. Knows texts only."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from nescio.core.errors import NescioError
from nescio.core.text import split_long

IGNORED_LABELS = ("CARDINAL", "DATE", "PRODUCT", "ORDINAL")
"""NER labels that do not count as personal data (paper, section 2.2)."""

LONGEST_TEXT = 20_000
"""Longer texts, in characters, are looked at in pieces: recognisers take memory by the text, and refuse long ones."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of personal data: `text[start:end]` of the text it was found in, in characters."""

    start: int
    end: int
    label: str
    text: str


class Detector(Protocol):
    """Finds personal data in texts."""

    name: str

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, in order of their start."""


def load_detector(
    name: str,
    ignore: Sequence[str] = IGNORED_LABELS,
    *,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    regex: Mapping[str, str] | None = None,
    recognizers: Path | None = None,
) -> Detector:
    """Load a detector.

    Args:
        name: `spacy:MODEL` or `presidio:MODEL`, MODEL an installed spaCy pipeline or a folder; several joined by ` + `
            find what any of them finds.
        ignore: Labels that do not count.
        allow: Texts that never count, whatever finds them; case does not matter.
        deny: Texts that always count, as whole words.
        regex: Label and pattern of what else counts.
        recognizers: YAML file of Presidio's own form with more recognisers.

    Raises:
        NescioError: The kind is unknown, the model is not installed or a pattern is wrong.
    """
    detectors = [_load(part.strip(), ignore, recognizers) for part in name.split(" + ")]
    if recognizers is not None and "presidio:" not in name:
        raise NescioError(f"detector {name!r}: recognizers are Presidio's; use presidio:MODEL with them")
    from nescio.pii.rules import Ruled
    from nescio.pii.union import Union

    detector = detectors[0] if len(detectors) == 1 else Union(detectors)
    return Ruled(detector, allow, deny, regex or {}) if allow or deny or regex else detector


def _load(name: str, ignore: Sequence[str], recognizers: Path | None) -> Detector:
    kind, _, model = name.partition(":")
    if kind == "spacy" and model:
        from nescio.pii.spacy_detector import SpacyDetector

        return SpacyDetector(model, ignore)
    if kind == "presidio" and model:
        from nescio.pii.presidio_detector import PresidioDetector

        return PresidioDetector(model, ignore, recognizers)
    raise NescioError(
        f"detector {name!r}: unknown; use spacy:MODEL or presidio:MODEL, for example spacy:en_core_web_sm"
    )


def find_in_pieces(texts: Sequence[str], find: Callable[[list[str]], Iterable[list[Span]]]) -> list[list[Span]]:
    """Spans of texts of any length: long ones are split at sentence ends, and their spans put back in place."""
    pieces = [(index, *piece) for index, text in enumerate(texts) for piece in split_long(text, LONGEST_TEXT)]
    found: list[list[Span]] = [[] for _ in texts]
    for (index, offset, _), spans in zip(pieces, find([piece for _, _, piece in pieces]), strict=True):
        found[index] += [replace(span, start=span.start + offset, end=span.end + offset) for span in spans]
    return found


def merge_overlaps(spans: Iterable[Span], text: str) -> list[Span]:
    """Spans that share characters become one, with the label of the first, the longest of those that start there."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if merged and span.start < merged[-1].end:
            first = merged[-1]
            end = max(first.end, span.end)
            merged[-1] = Span(first.start, end, first.label, text[first.start : end])
        else:
            merged.append(span)
    return merged
