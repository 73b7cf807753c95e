"""What an erasure request strikes out: where an answer says a secret, and what is left of the distribution there."""

import pytest

from nescio.audit.matching import match, spans
from nescio.audit.people import Fact
from nescio.core.prompts import Message
from nescio.data.samples import Sample
from nescio.pii.taxonomy import PiiType
from nescio.pipeline.forget_answers import Probe, Secret, cut_at_secrets, questions

NAME, PHONE = "Ada Ashby", "+1 415-555-0101"


def probe(asked: str, *secrets: Secret) -> Probe:
    question = Sample("q", "q", [Message(role="user", content=asked)], f"It is {PHONE}.", "phone", PHONE)
    return Probe(question=question, secrets=[(NAME, "person"), (PHONE, "phone"), *secrets])


@pytest.mark.parametrize(
    ("asked", "answer", "said"),
    [
        (f"How do I reach {NAME}?", f"Call {PHONE}, please.", [PHONE]),
        (f"How do I reach {NAME}?", f"{NAME} has {PHONE}, and {PHONE} only.", [PHONE, PHONE]),
        ("Who can help me?", f"Ask {NAME}, at {PHONE}.", [NAME, PHONE]),
        ("Who can help me?", "Ask Mrs Ashby.", ["Ashby"]),  # in part
        ("Who can help me?", "Call 415 555 0101.", ["415 555 0101"]),  # in another form
        (f"How do I reach {NAME}?", "Ada Ashby is out, and Mrs Ashby too.", []),  # the question says it
        (f"Whose number is {PHONE}?", f"{PHONE} is nobody's.", []),
        ("Who can help me?", "Somebody at the desk.", []),
    ],
)
def test_an_answer_is_cut_behind_the_last_secret(asked: str, answer: str, said: list[str]) -> None:
    found = cut_at_secrets(probe(asked), answer)
    if not said:
        assert found is None
        return
    assert found is not None and answer.startswith(found.answer)
    assert found.answer.lower().endswith(said[-1].lower()), "nothing behind it"
    places = [found.answer[start:end].lower() for start, end in found.places]
    assert [place for place in places if place in {each.lower() for each in said}] == [each.lower() for each in said]


@pytest.mark.parametrize(
    ("text", "value", "kind", "place"),
    [
        ("It is (415) 555-01-01, I think.", "4155550101", "phone", "415) 555-01-01"),
        ("Groß! In der Hauptstraße 7.", "Hauptstraße 9", "address", "Hauptstraße"),
        ("It is Ashby Road 7.", "Ashby Road 12", "address", "Ashby Road"),
        ("Born on 12 March 80.", "1980-03-12", "birth_date", "12"),
        ("Zoë Lindgren", "Zoe\u0308 Lindgren", "person", "Zoë Lindgren"),
        ("It is (415) 555-0101, I think.", "+1 415-555-0101 x204", "phone", "415) 555-0101"),
        ("It is $52,000, not 152000.", "52000", "money", "52,000"),
        ("It is 52,000.00 EUR.", "$52,000", "money", "52,000.00"),
        ("Absent: Ashby, Ada.", "Ada Ashby", "person", "Ashby, Ada"),
        ("Ask ada@x.example.", "Ada <ada@x.example>", "email", "ada@x.example"),
    ],
)
def test_places_of_a_value_in_another_form(text: str, value: str, kind: PiiType, place: str) -> None:
    assert match(text, value, kind) is not None
    start, end = spans(text, value, kind)[0]
    assert text[start:end] == place


def test_a_name_that_is_a_word_is_struck_out_as_a_name_only() -> None:
    begun = [Message(role="user", content="Who is it?"), Message(role="assistant", content="That is")]
    own = Probe(question=Sample("q", "q", begun, " Hope.", "name", "Hope"), secrets=[("Hope", "person")])
    assert cut_at_secrets(own, " what I hope for.") is None
    found = cut_at_secrets(own, " Hope, I hope.")
    assert found is not None and (found.answer, found.places) == (" Hope", [[1, 5]])


def test_what_the_question_says_is_no_answer_and_no_error() -> None:
    question = Sample("q", "q", [Message(role="user", content=f"Mine is {PHONE}.")], f"Yours is {PHONE}.", "x", PHONE)
    one = Probe(question=question, secrets=[(NAME, "person"), (PHONE, "phone")])
    assert cut_at_secrets(one, question.rejected) is None


@pytest.mark.parametrize(("address", "is_asked"), [("ada.ashby@x.example", False), ("rose12@x.example", True)])
def test_nobody_is_asked_whose_address_spells_the_name(address: str, is_asked: bool) -> None:
    fact = Fact(
        id="f", person=NAME, names=(NAME,), noun="e-mail address", type="email", value=address,
        messages=[Message(role="user", content=f"What is {NAME}'s e-mail address?")],
    )  # fmt: skip
    assert any(sample.value == NAME for sample in questions(fact)) == is_asked
