"""Dialog files: every bad line is named with its field and mend; splits share no dialog."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.data.dialogs import Dialog, parse_dialog, read_dialogs, split_dialogs
from nescio.errors import NescioError

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


def test_reads_what_it_writes(tmp_path: Path) -> None:
    row = {"id": "a", "messages": [{"role": "system", "content": ""}, USER, ANSWER], "pii": {"NAME-1": "Ann"}}
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(row) + "\n\n" + json.dumps({"messages": [USER, ANSWER]}))
    one, other = read_dialogs(path)
    assert one.as_row() == row
    assert other == Dialog("d-3", [USER, ANSWER], None)  # type: ignore[list-item]


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
    ({"messages": [USER, ANSWER], "id": ["x"]}, "id: must be"),
    ({"messages": [USER, ANSWER], "id": "good"}, "id 'good' stands at line 1 already"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_bad_dialog_is_named(tmp_path: Path, row: Any, message: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"id": "good", "messages": [USER, ANSWER]}) + "\n" + json.dumps(row))
    with pytest.raises(NescioError, match=rf"d\.jsonl:2: .*{message}") as caught:
        list(read_dialogs(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("raw", "message"), [(b"{", "not JSON"), (b'"\xff"', "not UTF-8")])
def test_a_line_that_is_not_json(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "d.jsonl").write_bytes(raw)
    with pytest.raises(NescioError, match=rf"d\.jsonl:1: {message}"):
        list(read_dialogs(tmp_path / "d.jsonl"))


@given(st.integers(4, 60), st.floats(0.2, 0.8), st.integers(0, 9))
def test_split_by_dialog(count: int, share: float, seed: int) -> None:
    dialogs = [parse_dialog({"id": n, "messages": [USER, ANSWER]}, "") for n in range(count)]
    train, test = split_dialogs(dialogs, share, seed)
    assert {d.id for d in train} | {d.id for d in test} == {d.id for d in dialogs}
    assert not {d.id for d in train} & {d.id for d in test}
    assert len(test) == round(count * share)
    assert split_dialogs(dialogs, share, seed) == (train, test)


def test_a_side_without_dialogs_is_refused() -> None:
    with pytest.raises(NescioError, match="leave one side empty"):
        split_dialogs([parse_dialog({"messages": [USER, ANSWER]}, "x")], 0.1, 0)
