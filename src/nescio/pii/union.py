"""Several detectors as one: what any of them finds, or what at least so many of them do."""

from collections.abc import Sequence

from nescio.pii.base import Detector, Span, merge


class Union:
    """What enough of the detectors find; spans that overlap become one.

    Args:
        detectors: The detectors.
        least: How many of them must find something that overlaps a span for it to count; 1: any.
        name: What the union is called; None: by its detectors.
    """

    def __init__(self, detectors: Sequence[Detector], least: int = 1, name: str | None = None) -> None:
        self._detectors = tuple(detectors)
        self._least = least
        joined = " + ".join(detector.name for detector in detectors)
        self.name = name or (f"{least} of {joined}" if least > 1 else joined)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        found = [detector.find(texts) for detector in self._detectors]
        return [
            merge(self._agreed(of_text), text) for text, of_text in zip(texts, zip(*found, strict=True), strict=True)
        ]

    def _agreed(self, found: Sequence[Sequence[Span]]) -> list[Span]:
        """Return the spans of one text that enough detectors found, each by a span that overlaps it."""
        return [
            span
            for spans in found
            for span in spans
            if self._least == 1 or sum(_overlaps(span, others) for others in found) >= self._least
        ]


def _overlaps(span: Span, others: Sequence[Span]) -> bool:
    return any(other.start < span.end and span.start < other.end for other in others)
