"""Wordings of callers who want personal data, and the places where they stand."""

from collections import Counter
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.guidance import REVEAL
from nescio.core.prompts import Message, render
from nescio.data.persuasion import HELD_OUT, POSITIONS, Position, Wording, ask_for, wordings

TRAINED, TESTED = wordings(held_out=False), wordings(held_out=True)
ALL = [*TRAINED, *TESTED]


def test_there_are_many_wordings_of_many_kinds_and_four_kinds_are_held_out() -> None:
    assert len(ALL) >= 60 and len({one.text for one in ALL}) == len({one.opening for one in ALL}) == len(ALL)
    assert len({one.kind for one in ALL}) >= 12
    assert {one.kind for one in TESTED} == set(HELD_OUT) and len(HELD_OUT) == 4
    assert not {one.kind for one in TRAINED} & set(HELD_OUT)
    languages = Counter(one.language for one in ALL)
    assert set(languages) == {"en", "es", "fr", "de", "it"} and languages["en"] > len(ALL) / 2
    assert {"es", "fr", "it"} < {one.language for one in TESTED}
    assert REVEAL in {one.text for one in TRAINED}


def test_each_position_by_hand() -> None:
    system, user = Message(role="system", content="Be brief."), Message(role="user", content="Hello. Who is it?")
    begun = Message(role="assistant", content="It is")
    wording = Wording("Tell all.", "order", "de", "Gut:")

    def texts(position: Position, *messages: Message) -> list[str]:
        return [f"{m['role'][0]}: {m['content']}" for m in ask_for(list(messages), wording, position)]

    assert texts("front", user) == ["u: Tell all. Hello. Who is it?"]
    assert texts("middle", system, user, begun) == ["s: Be brief.", "u: Hello. Tell all. Who is it?", "a: It is"]
    assert texts("end", user) == ["u: Hello. Who is it? Tell all."]
    assert texts("earlier", system, user) == ["s: Be brief.", "u: Tell all.", "a: Natürlich.", "u: Hello. Who is it?"]
    assert texts("system", user) == ["s: Tell all.", "u: Hello. Who is it?"]
    assert texts("system", system, user) == ["s: Be brief. Tell all.", "u: Hello. Who is it?"]
    assert texts("second_system", system, user) == ["s: Be brief.", "s: Tell all.", "u: Hello. Who is it?"]
    assert texts("second_system", user)[1:] == ["s: Tell all.", "u: Hello. Who is it?"]
    assert texts("answer", user) == ["u: Hello. Who is it?", "a: Gut:"]
    assert texts("answer", user, begun) == ["u: Hello. Who is it?", "a: Gut: It is"]
    assert texts("middle", Message(role="user", content="one two three")) in (
        ["u: one Tell all. two three"],
        ["u: one two Tell all. three"],
    )
    assert texts("middle", Message(role="user", content="word")) == ["u: word Tell all."]


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=40)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """System messages, turns that alternate, and perhaps the beginning of an answer."""
    systems = draw(st.lists(words, max_size=2))
    turns = draw(st.lists(words, min_size=1, max_size=6))
    roles = ["user", "assistant"] * 3
    return [Message(role="system", content=text) for text in systems] + [
        Message(role=role, content=text) for role, text in zip(roles, turns, strict=False)
    ]


@given(conversations(), st.sampled_from(ALL), st.sampled_from(POSITIONS))
def test_only_the_caller_request_is_added(messages: list[Message], wording: Wording, position: Position) -> None:
    before = [Message(role=m["role"], content=m["content"]) for m in messages]
    asked = ask_for(messages, wording, position)
    assert messages == before
    assert asked == ask_for(messages, wording, position)

    # Roles alternate behind the system messages, user first.
    systems = len(list(takewhile(lambda m: m["role"] == "system", asked)))
    assert [m["role"] for m in asked[systems:]] == [("user", "assistant")[i % 2] for i in range(len(asked) - systems)]

    # Without what was added, the conversation is the same; the last user message keeps its words.
    last = max(i for i, m in enumerate(messages) if m["role"] == "user")
    at = len(asked) - 1 if position == "answer" else last
    own_systems = [m["role"] for m in messages].count("system")
    if position == "second_system":
        assert asked[max(own_systems, 1)]["content"] == wording.text
        assert asked[max(own_systems, 1) + 1 :] == messages[own_systems:]
        assert asked[:own_systems] == messages[:own_systems]
    elif position == "earlier":
        assert asked[at] == Message(role="user", content=wording.text)
        assert asked[:at] + asked[at + 2 :] == messages
    elif position == "system":
        assert asked[0]["content"].endswith(wording.text)
        assert asked[1:] == messages[1 if own_systems else 0 :]
    elif position == "answer":
        is_open = messages[-1]["role"] == "assistant"
        assert asked[at]["content"].startswith(wording.opening)
        assert asked[at]["content"].endswith(messages[-1]["content"].lstrip() if is_open else wording.opening)
        assert asked[:at] == messages[: len(messages) - is_open]
    else:
        assert asked[at]["content"].replace(wording.text, " ", 1).split() == messages[at]["content"].split()
        assert [*asked[:at], messages[at], *asked[at + 1 :]] == messages


@pytest.mark.parametrize("position", POSITIONS)
def test_a_conversation_without_a_user_message_gets_one_or_an_answer(position: Position) -> None:
    asked = ask_for([], ALL[0], position)
    assert ALL[0].text in asked[-1]["content"] or asked[-1]["content"] == ALL[0].opening


@pytest.mark.parametrize("template", ["chatml", "llama3", "no_system"])
@pytest.mark.parametrize("position", POSITIONS)
def test_every_template_shows_the_request(request: pytest.FixtureRequest, template: str, position: Position) -> None:
    tokenizer = request.getfixturevalue(template)
    for messages in (
        [Message(role="user", content="Who?")],
        [Message(role="system", content="Be brief."), Message(role="user", content="Who?")],
    ):
        text = render(tokenizer, ask_for(messages, ALL[0], position))
        assert (ALL[0].opening if position == "answer" else ALL[0].text) in text
        assert all(m["content"] in text for m in messages)
