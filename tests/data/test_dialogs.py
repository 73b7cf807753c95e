"""Dialogs: every fault is named with its field and mend; splits share no dialog."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.data.dialogs import Dialog, Fields, held_out, parse_dialog

USER, ANSWER = {"role": "user", "content": "Hi, Ann"}, {"role": "assistant", "content": "Hello"}


def test_a_row_is_what_was_parsed() -> None:
    row = {"id": "a", "messages": [{"role": "system", "content": ""}, USER, ANSWER], "pii": {"NAME-1": "Ann"}}
    assert parse_dialog(row, "x").as_row() == row
    assert parse_dialog({"messages": [USER, ANSWER]}, "x") == Dialog("x", [USER, ANSWER], None)  # type: ignore[list-item]


BAD: list[tuple[Any, str]] = [
    ([1], "not a JSON object"),
    ({}, "messages: missing or empty"),
    ({"messages": []}, "messages: missing or empty"),
    ({"messages": ["hi"]}, r"messages\[0\]: not an object"),
    ({"messages": [{"role": "bot", "content": "x"}]}, r"messages\[0\]\.role: 'bot' is unknown"),
    ({"messages": [USER, {"role": "assistant", "content": 3}]}, r"messages\[1\]\.content: must be a text"),
    ({"messages": [USER, {"role": "assistant", "content": " "}]}, r"messages\[1\]\.content: is empty"),
    ({"messages": [USER]}, "no assistant turn"),
    ({"messages": [USER, USER, ANSWER]}, r"messages\[1\]\.role: user, but turns must alternate"),
    ({"messages": [ANSWER, USER]}, r"messages\[0\]\.role: assistant, but turns must alternate"),
    ({"messages": [USER, {"role": "system", "content": "x"}]}, r"messages\[1\]\.role: system"),
    ({"messages": [USER, ANSWER], "pii": []}, "pii: must be an object"),
    ({"messages": [USER, ANSWER], "pii": {"NAME-1": ""}}, "pii: must be an object"),
    ({"messages": [USER, ANSWER], "pii": {"NAME-1": "Ben"}}, r"pii\.NAME-1: 'Ben' occurs in no message"),
    (
        {"messages": [USER | {"content": "My code is A123456B."}, ANSWER], "pii": {"ID": "123456"}},
        r"pii\.ID: '123456' stands only in longer words; record these",
    ),
    ({"messages": [USER, ANSWER], "id": ["x"]}, "id: must be"),
    (
        {"messages": [USER, ANSWER | {"content": "a\ud83d"}]},
        r"messages\[1\]\.content: holds half a character \(U\+D83D",
    ),
    ({"messages": [USER, ANSWER], "id": "\udc00"}, "id: holds half"),
    ({"messages": [USER, ANSWER], "pii": {"N\ud800": "Ann"}}, "pii: holds half"),
]


@pytest.mark.parametrize(
    ("said", "value"), [("That is Annas!", "Anna"), ("Ask Meiersche.", "Meier"), ("김민수씨는", "김민수")]
)
def test_a_name_may_stand_in_a_longer_word(said: str, value: str) -> None:
    row = {"messages": [USER, ANSWER | {"content": said}], "pii": {"NAME-1": value}}
    assert parse_dialog(row, "x").pii == {"NAME-1": value}


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_fault_is_named_in_one_line(row: Any, message: str) -> None:
    with pytest.raises(NescioError, match=message) as caught:
        parse_dialog(row, "x")
    assert "\n" not in str(caught.value)


def test_faults_have_the_names_of_the_format() -> None:
    row = {"messages": [USER, {"role": "assistant", "content": ""}]}
    with pytest.raises(NescioError, match=r"conversations\[1\]\.value: is empty"):
        parse_dialog(row, "x", Fields("conversations", "from", "value"))


@given(st.integers(4, 60), st.floats(0.2, 0.8), st.integers(0, 9))
def test_the_share_that_is_held_out(count: int, share: float, seed: int) -> None:
    test = held_out(count, share, seed)
    assert test < set(range(count))
    assert len(test) == round(count * share)
    assert held_out(count, share, seed) == test


def test_a_side_without_dialogs_is_refused() -> None:
    with pytest.raises(NescioError, match="leave one side empty"):
        held_out(1, 0.1, 0)
