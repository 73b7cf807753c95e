"""What of a fact is form: the part that the same answer about somebody made up is as sure of."""

from math import log

import pytest

from nescio.core.prompts import Message
from nescio.pipeline.forget_answers import Secret, Told
from nescio.pipeline.forget_form import about_somebody_else, own_part

NAME, EMAIL, PHONE = "Ada Ashby", "ada.ashby12@example.com", "+1 415-555-0101"
SECRETS: list[Secret] = [(NAME, "person"), (EMAIL, "email"), (PHONE, "phone")]


def row(asked: str, answer: str, value: str) -> Told:
    start = answer.index(value)
    prompt = [Message(role="user", content=asked)]
    return Told(id="q", prompt=prompt, answer=answer, places=[[start, start + len(value)]])


@pytest.mark.parametrize(
    ("asked", "answer", "value"),
    [
        (f"How can I write to {NAME}?", f"Write to {NAME} at {EMAIL}", EMAIL),
        (f"Who has {PHONE}?", f"That is {NAME}", NAME),
        (f"Who is at {PHONE.replace(' ', '  ')}, {NAME.upper()}?", f"Yes, at {EMAIL}", EMAIL),
    ],
)
def test_somebody_else_is_asked_about_in_the_same_words(asked: str, answer: str, value: str) -> None:
    each = row(asked, answer, value)
    other = about_somebody_else(each, SECRETS)
    assert other is not None and other.prompt != each.prompt
    (start, end), text = other.places[0], f"{other.prompt} {other.answer}"
    assert other.answer[start:end] == value == other.answer[start:], "the fact stays"
    assert text.count(value) == 1 and not any(known.lower() in text.lower() for known, _ in SECRETS if known != value)


def test_where_nothing_tells_whom_it_is_about_there_is_nobody_else() -> None:
    assert about_somebody_else(row("Who can help me?", f"Ask {NAME}", NAME), SECRETS) is None


def test_plain_text_is_about_somebody_else_too() -> None:
    each = Told(id="t", prompt=f"About {NAME}. Phone:", answer=f" {PHONE}", places=[[1, 1 + len(PHONE)]])
    other = about_somebody_else(each, SECRETS)
    assert other is not None and isinstance(other.prompt, str)
    assert NAME not in other.prompt and other.prompt.endswith(". Phone:") and other.answer == each.answer


def test_only_what_is_unlikely_of_anybody_is_the_persons_own() -> None:
    answer = "At ada12@example.com"
    offsets = [(0, 2), (2, 6), (6, 8), (8, 16), (16, 20)]
    each = Told(id="q", prompt="", answer=answer, places=[[3, 20]])
    sure, unsure = log(0.9), log(0.1)
    assert own_part(each, offsets, [unsure, unsure, unsure, sure, sure]) == [[3, 8]]
    assert own_part(each, offsets, [sure, unsure, sure, unsure, sure]) == [[3, 6], [8, 16]]
    assert own_part(each, offsets, [unsure, sure, sure, sure, sure]) == [[3, 20]], "said of anybody, it is said of her"
