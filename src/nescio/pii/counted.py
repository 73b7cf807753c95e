"""Types that count: dates are told from dates of birth and ages, and other types are left out."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from nescio.pii.base import Detector, Span
from nescio.pii.taxonomy import type_of_date


class Counted:
    """What a detector finds of some types.

    Args:
        detector: Finds personal data.
        types: Those that count.
    """

    def __init__(self, detector: Detector, types: Collection[str]) -> None:
        self.name = detector.name
        self._detector = detector
        self._types = frozenset(types)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return [
            [typed for span in spans if (typed := _with_date_type(text, span)).type in self._types]
            for text, spans in zip(texts, self._detector.find(texts), strict=True)
        ]


def _with_date_type(text: str, span: Span) -> Span:
    return replace(span, type=type_of_date(text, span.start, span.end)) if span.type == "date" else span
