"""Patterns and checksums: e-mail addresses, telephone numbers, cards, identity numbers and more, without a model."""

from collections.abc import Sequence

from nescio.core.errors import NescioError
from nescio.pii.addresses import addresses
from nescio.pii.base import IGNORED_LABELS, Span, find_in_pieces, merge
from nescio.pii.dates import birth_dates
from nescio.pii.patterns import IDENTIFIERS, NAMED
from nescio.pii.phones import phones
from nescio.pii.registry import DETECTORS

_FINDERS = {"PHONE": phones, "BIRTH_DATE": birth_dates, "ADDRESS": addresses}


@DETECTORS.register("regex")
class RegexDetector:
    """What has a form, in any language; the recipe's `detector.regex` adds patterns of one's own.

    Args:
        model: Empty; it has none.
        ignore: Labels that do not count.

    Raises:
        NescioError: A model is named.
    """

    name = "regex"
    reads = ()  # patterns are of any language

    def __init__(self, model: str = "", ignore: Sequence[str] = IGNORED_LABELS) -> None:
        if model:
            raise NescioError(
                f"detector regex:{model}: has no model; use regex, and detector.regex for patterns of your own, "
                "or a detector with one, such as spacy:MODEL"
            )
        self._ignore = frozenset(ignore)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return find_in_pieces(texts, lambda plain: map(self._found, plain))

    def _found(self, text: str) -> list[Span]:
        places = [(label, place) for label, finder in _FINDERS.items() for place in finder(text)]
        places += [(pattern.label, place) for pattern in (*IDENTIFIERS, *NAMED) for place in pattern.find(text)]
        spans = (Span(start, end, label, text[start:end]) for label, (start, end) in places)
        return merge((span for span in spans if span.label not in self._ignore), text)
