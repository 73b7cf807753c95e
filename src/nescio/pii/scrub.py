"""Personal data in a text masked by its label. Knows texts and spans only."""

from collections.abc import Sequence

from nescio.pii.base import Span


def scrub(text: str, spans: Sequence[Span]) -> str:
    """The text with each span replaced by its label in brackets: "Ask Ann." becomes "Ask [PERSON]."; overlaps once."""
    pieces, end = [], 0
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if span.start >= end:
            pieces += [text[end : span.start], f"[{span.label}]"]
            end = span.end
    return "".join([*pieces, text[end:]])
