"""Masks stand exactly where the spans were."""

from nescio.pii.base import Span, mask


def test_spans_become_their_labels() -> None:
    text = "Ask Ann Lee in Rome."
    spans = [Span(15, 19, "GPE", "Rome"), Span(4, 11, "PERSON", "Ann Lee"), Span(8, 11, "PERSON", "Lee")]
    assert mask(text, spans) == "Ask [PERSON] in [GPE]."
    assert mask(text, []) == text
    assert mask("Rome", [Span(0, 4, "GPE", "Rome")]) == "[GPE]"


def test_spans_that_overlap_in_part_get_one_mark() -> None:
    spans = [Span(4, 10, "PERSON", "Ann Le"), Span(8, 11, "NAME", "Lee")]
    assert mask("Ask Ann Lee in Leeds.", spans) == "Ask [PERSON] in Leeds."
    assert mask("Ask Ann Lee in Leeds.", spans[::-1], "[PII]") == "Ask [PII] in Leeds."
