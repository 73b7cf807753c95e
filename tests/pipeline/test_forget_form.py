"""What of a fact is form: how most others' facts of the kind end."""

import pytest

from nescio.audit.people import Fact
from nescio.core.prompts import Message
from nescio.data.samples import Sample
from nescio.pii.taxonomy import PiiType
from nescio.pipeline.forget_answers import Probe, cut_at_secrets, texts
from nescio.pipeline.forget_form import shared_endings, without_ending


def fact(value: str, kind: PiiType = "email", person: str = "Ada Ashby") -> Fact:
    asked = [Message(role="user", content=f"What is {person}'s {kind}?")]
    return Fact(id=value, person=person, names=(person,), noun=kind, type=kind, value=value, messages=asked)


@pytest.mark.parametrize(
    ("values", "kind", "ending"),
    [
        (["a1@x.example", "b2@x.example", "c3@X.example", "d@y.example"], "email", "@x.example"),
        (["a1@x.example", "b2@y.example", "c3@z.example"], "email", ".example"),
        (["a1@x.example", "b2@x.example"], "email", None),  # too few
        (["1 May 1970", "2 June 1970", "3 July 1981", "4 March 1990", "5 May 1977"], "birth_date", None),  # under half
        (["Leeds", "Leeds", "Leeds"], "place", None),  # a whole fact
        (["415-555-0101", "212-555-0142", "646-555-0133"], "phone", None),
        (["1 Elm Road, Leeds", "2 Oak Road, Leeds", "3 Fir Lane, Leeds"], "address", ", leeds"),
    ],
)
def test_how_most_facts_of_a_kind_end_is_form(values: list[str], kind: PiiType, ending: str | None) -> None:
    assert shared_endings(fact(value, kind) for value in values).get(kind) == ending


def test_form_stays_where_a_fact_is_struck_out() -> None:
    value, endings = "ada.ashby12@x.example", {"email": "@x.example"}
    question = Sample("q", "q", fact(value).messages, f"It is {value}.", "email", value)
    found = cut_at_secrets(
        Probe(question=question, secrets=[(value, "email")], endings=endings), f"Write to {value.upper()}, please."
    )
    assert found is not None and found.answer == f"Write to {value.upper()}", (
        "the answer goes on to the end of the fact"
    )
    ((start, end),) = found.places
    assert found.answer[start:end] == "ADA.ASHBY12"
    for text in texts(fact(value), endings):
        ((start, end),) = text.places
        assert text.answer[start:end] == "ada.ashby12" and text.answer.endswith(value)


def test_an_ending_that_is_all_that_is_said_stays_struck() -> None:
    assert without_ending("at @x.example", (3, 13), "email", {"email": "@x.example"}) == (3, 13)
    assert without_ending("in Leeds", (3, 8), "place", {"email": "@x.example"}) == (3, 8)


def test_an_ending_may_be_longer_in_small_letters() -> None:
    assert without_ending("at 12 Lange Straße", (3, 18), "address", {"address": " strasse"}) == (3, 11)
