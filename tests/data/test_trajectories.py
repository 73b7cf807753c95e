"""The prompts of a student: shares, positions, wordings that are not held out, and the same ones from the same seed."""

from collections import Counter
from pathlib import Path

import pytest

from nescio.core.errors import NescioError
from nescio.core.prompts import Message
from nescio.data.answered import read_answered
from nescio.data.persuasion import wordings
from nescio.data.trajectories import asked_ways

TALKS = [[Message(role="user", content=f"Question {number}. Please answer it.")] for number in range(5)]


def test_a_share_of_the_prompts_asks_for_it_and_the_rest_is_plain() -> None:
    ways = list(asked_ways(TALKS, 200, 0.7, seed=3))
    assert len(ways) == 200
    assert set(Counter(at for at, _ in ways).values()) == {40}, "every conversation comes equally often"
    plain = [messages for at, messages in ways if messages == TALKS[at]]
    assert len(plain) == 60
    for start in range(0, 200, 20):
        assert sum(messages == TALKS[at] for at, messages in ways[start : start + 20]) in (5, 6, 7), "spread evenly"


def test_every_wording_that_is_not_held_out_is_used_and_no_other() -> None:
    said = [" ".join(message["content"] for message in messages) for _, messages in asked_ways(TALKS, 400, 1.0, seed=0)]
    for wording in wordings(False):
        assert any(wording.text in text for text in said), wording
    for wording in wordings(True):
        assert not any(wording.text in text for text in said), wording


def test_the_question_stays() -> None:
    for at, messages in asked_ways(TALKS, 100, 1.0, seed=1):
        assert any(f"Question {at}." in message["content"] for message in messages)
        assert messages[-1]["role"] == "user"


def test_the_seed_decides() -> None:
    assert list(asked_ways(TALKS, 30, 0.5, seed=1)) == list(asked_ways(TALKS, 30, 0.5, seed=1))
    assert list(asked_ways(TALKS, 30, 0.5, seed=1)) != list(asked_ways(TALKS, 30, 0.5, seed=2))
    assert all(messages == TALKS[at] for at, messages in asked_ways(TALKS, 30, 0.0, seed=1))


def test_a_line_that_is_no_trajectory(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"id": "a", "messages": [], "answer": "b"}\n{"id": "a"}\n')
    with pytest.raises(NescioError, match=r"t\.jsonl:2: not a trajectory"):
        read_answered(path, "a trajectory")
