"""Texts with letters that are longer, or others, in capitals or small letters; what detectors must say of them."""

from itertools import pairwise

from hypothesis import strategies as st

from nescio.pii.base import Detector

ALIKE = "İıſK"
"""Letters that a pattern takes for I, S and K where case does not matter."""

LETTERS = f"ßŉǰΐẖẚẞᾳᾼﬀﬁﬃﬓÅ²①{ALIKE}"
"""Each is more letters, or another one, when its case or its Unicode form is changed."""

PIECES = (
    "Ann Lee", "Leeds", "555 Leeson", "tom@mail.example", "https://mail.example/a?b=c", "203.0.113.7", "2001:db8::7334",
    "+49 30 901820", "(415) 555-0132", "4111 1111 1111 1111", "IT60X0542811101000000123456", "536-22-8841",
    "SK3112000000198742637541", "RSSMRA85T10A562S", "12345678Z", "X1234567L", "529.982.247-25",
    "1 85 05 2A 006 084 91", "passport number: SK123456", "12 Baker Street, London NW1 6XE", "born on May 3, 1981",
)  # fmt: skip


@st.composite
def odd_texts(draw: st.DrawFn) -> str:
    """Draw some pieces of personal data between odd letters, each with an odd letter in the place of one of its own."""
    parts = list[str]()
    for piece in draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3)):
        at = draw(st.integers(0, len(piece)))
        letter = draw(st.sampled_from(ALIKE) | st.sampled_from(LETTERS))
        parts += [draw(st.text(f"{LETTERS} ", max_size=4)), piece[:at], letter, piece[at + 1 :]]
    return "".join([*parts, draw(st.sampled_from(["", f" {LETTERS}", " Ann Lee", " tom@mail.example"]))])


def assert_places_are_right(detector: Detector, text: str) -> None:
    """Check that the spans of a text are parts of it, in order."""
    (spans,) = detector.find([text])
    assert [text[span.start : span.end] for span in spans] == [span.text for span in spans]
    assert all(span.text for span in spans) and all(one.end <= two.start for one, two in pairwise(spans))
