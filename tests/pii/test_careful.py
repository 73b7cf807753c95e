"""What models find and is more likely something else: numbers by what they are called, names in other languages."""

from collections.abc import Sequence

import pytest

from nescio.pii.base import Span
from nescio.pii.called import called
from nescio.pii.careful import Careful
from nescio.pii.english import is_english


class Finds:
    """Finds what stands in brackets, with one label; the brackets are taken away by `careful`."""

    name = "finds"

    def __init__(self, label: str, start: int, end: int) -> None:
        self.label, self.start, self.end = label, start, end

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[Span(self.start, self.end, self.label, text[self.start : self.end])] for text in texts]


def counts(label: str, marked: str, english: bool = True) -> bool:
    """Whether the piece in brackets counts, found under a label."""
    start, end = marked.index("["), marked.index("]") - 1
    detector = Careful(Finds(label, start, end), english)
    return bool(detector.find([marked.replace("[", "").replace("]", "")])[0])


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        ("call me at ", "phone"), ("My order number is ", "thing"), ("Bestellnummer ", "thing"),
        ("passport no. ", "person"),
        ("my number is ", "phone"), ("She lives in ", None), ("Your order is late. Call ", "phone"),
        ("Call us. The order ", "thing"), ("A call is no order. It is ", None),
        ("Order #", "thing"), ("The number of the order is ", "thing"),
        ("The tracking number of your parcel is ", "thing"),
        ("customer no. ", "person"), ("customer #", "person"), ("Customer ", None), ("my passport: ", "person"),
        ("Order for Ann, ", None), ("Missed call from ", "phone"), ("Caller ID: ", None), ("just in case: ", None),
        ("The order number:\n", "thing"), ("Thanks for the order\n", None), ("Orders: ", None),
    ],
)  # fmt: skip
def test_what_a_number_is_called(before: str, kind: str | None) -> None:
    assert called(before + "415-555-0132", len(before)) == kind


@pytest.mark.parametrize(
    ("label", "marked", "does"),
    [
        ("PHONE", "Call [4155550132] now.", True),
        ("PHONE", "Multiply [1234567890] by 3.", False),
        ("PHONE", "Here: [415-555-0132].", True),
        ("PHONE", "Your order [4471-20983-7] has left.", False),
        ("PHONE", "Please confirm the order with Ann at [415-555-0132].", True),
        ("ADDRESS", "Please ship my order: [14 Old Mill Farm].", True),
        ("ADDRESS", "It listens at [port 52110].", False),
        ("GOVERNMENT_ID", "The batch [L2309187] is late.", False),
        ("GOVERNMENT_ID", "He gave [L2309187] as his id.", True),
        ("PASSPORT", "[0x7ffeefbff5c8] is on the stack.", False),
        ("DRIVERS_LICENSE", "UUID [550e8400-e29b-41d4-a716-446655440000]", False),
        ("DRIVERS_LICENSE", 'ETag "[6f1ed002ab5595859014ebf0951522d9]"', False),
        ("GOVERNMENT_ID", "It is about [3.14159265358979].", False),
        ("IP_ADDRESS", "Version [1.2.3.4] is out.", False),
        ("IP_ADDRESS", "The login came from [1.2.3.4].", True),
        ("PHONE", "Звони 8 [(912) 345-67-89].", True),
        ("BUILDING_NUMBER", "It has [189] seats.", False),
        ("SECONDARY_ADDRESS", "Is it [B]?", False),
        ("STREET_NAME", "We met in [Baker Street].", True),
        ("PERSON", "Ask [Anna] about it.", True),
        ("PERSON", "[Password]: x", False),
        ("ORG", "[Invoice date]: today", False),
        ("ORG", "The [IBAN] is wrong.", False),
        ("PERSON", "Ask [anybody] about it.", False),
        ("PERSON", "[Meine Seite] ist neu, und ich bin es auch.", False),
        ("DATE", "It was [2021].", True),
    ],
)
def test_what_counts_of_a_model_that_reads_english(label: str, marked: str, does: bool) -> None:
    assert counts(label, marked) is does


def test_what_counts_of_a_model_that_reads_more() -> None:
    assert counts("GIVEN_NAME", "Das ist [Anna], und sie ist hier.", english=False)
    assert counts("GIVEN_NAME", "hi, [anna] here", english=False), "a text in small letters has its names in them"
    assert not counts("GIVEN_NAME", "Ask [anybody] here.", english=False)


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("The man who was here is gone.", True), ("Der Mann, der hier war, ist weg.", False), ("Oslo 1234", True),
        ("Où est la gare, et le train ?", False), ("¿Dónde está el tren?", False),
        ("Dov'è il treno per la città?", False), ("Waar is de trein van het park?", False),
        ("Onde está o trem para a cidade?", False), ("", True),
    ],
)  # fmt: skip
def test_english_is_told_by_its_small_words(text: str, is_so: bool) -> None:
    assert is_english(text) is is_so
