"""Masks stand exactly where the spans were."""

from nescio.pii.base import Span
from nescio.pii.scrub import scrub


def test_spans_become_their_labels() -> None:
    text = "Ask Ann Lee in Rome."
    spans = [Span(15, 19, "GPE", "Rome"), Span(4, 11, "PERSON", "Ann Lee"), Span(8, 11, "PERSON", "Lee")]
    assert scrub(text, spans) == "Ask [PERSON] in [GPE]."
    assert scrub(text, []) == text
    assert scrub("Rome", [Span(0, 4, "GPE", "Rome")]) == "[GPE]"
