"""Which of several clean answers to a sample becomes its chosen one, and that an interrupted weighing goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.core.answer_cache import AnswerCache
from nescio.core.files import read_jsonl, write_jsonl
from nescio.core.prompts import Message
from nescio.data.best import mark_best, score
from nescio.data.samples import Sample
from nescio.data.topic import Weighed, another
from nescio.engines.base import Scoring

GARDEN = "Your roses and the garden gate are at the end of the long lane."
ANYBODY = "I am happy to help you with that, so please ask me anything today."


def sample(number: int, about: str) -> Sample:
    messages = [Message(role="user", content=f"Tell me of {about}."), Message(role="assistant", content="Well,")]
    return Sample(f"s{number}", f"d{number}", messages, " Tom has roses and a garden gate at the end.", "NAME", "Tom")


SAMPLES = [sample(0, "the garden"), sample(1, "a car"), sample(2, "the sea")]


class Base:
    """Finds each word of an answer likely after a question that holds it."""

    def __init__(self) -> None:
        self.weighed = list[Scoring]()

    def score_batch(self, items: Sequence[Scoring], progress: Any = None) -> list[list[float]]:
        self.weighed += items
        return [
            [-1.0 if word.strip(".") in str(item.prompt) else -3.0 for word in item.continuation.split()]
            for item in items
        ]


def candidates(*texts: str, name: str = "s0", **more: Any) -> list[dict[str, Any]]:
    return [
        {"sample_id": name, "source": "base", "strategy": "system", "try": number, "text": text, "accepted": True}
        | more
        for number, text in enumerate(texts)
    ]  # fmt: skip


def best(path: Path, rows: list[dict[str, Any]], base: Base | None = None) -> list[bool | None]:
    write_jsonl(path, rows)
    mark_best(path, SAMPLES, base or Base(), AnswerCache(path.with_name("weighed.jsonl"), "result"))  # type: ignore[arg-type]
    return [row.get("best") for _, row in read_jsonl(path)]


def test_what_would_do_for_anybody_is_not_the_best(tmp_path: Path) -> None:
    assert best(tmp_path / "c.jsonl", candidates(ANYBODY, GARDEN)) == [False, True]


def test_what_fits_another_prompt_is_the_worst(tmp_path: Path) -> None:
    assert best(tmp_path / "c.jsonl", candidates("It is a car, they say of a car.", ANYBODY)) == [False, True]


def test_as_full_as_the_rejected_answer(tmp_path: Path) -> None:
    short = Weighed([-1.0, -1.0], [-2.0, -2.0])
    assert score(short, "the garden", "one two three four") == pytest.approx(0.5)
    assert score(short, "of the garden wall and more", "one two three four") == pytest.approx(1)
    assert score(Weighed([-2.0], [-1.0]), "no", "one two") == -1, "less is no merit of what is off the topic"


def test_each_source_and_strategy_has_its_own_best_and_what_is_alone_is_it_unweighed(tmp_path: Path) -> None:
    base = Base()
    rows = [
        *candidates(ANYBODY, GARDEN),
        *candidates(ANYBODY, strategy="nudge"),
        *candidates(GARDEN, accepted=False, strategy="nudge"),
        *candidates(ANYBODY, GARDEN, name="s1"),
    ]
    assert best(tmp_path / "c.jsonl", rows, base) == [False, True, True, None, True, False]
    assert len(base.weighed) == 2 * 4
    own, other = base.weighed[1], base.weighed[5]
    assert "garden" in str(own.prompt) and "car" in str(other.prompt)
    assert own.prompt[-1] == other.prompt[-1] == SAMPLES[0].messages[-1]  # type: ignore[comparison-overlap]


def test_of_equals_the_first(tmp_path: Path) -> None:
    assert best(tmp_path / "c.jsonl", candidates(GARDEN, GARDEN)) == [True, False]


def test_nothing_is_weighed_twice(tmp_path: Path) -> None:
    rows, base = candidates(ANYBODY, GARDEN), Base()
    first = best(tmp_path / "c.jsonl", rows)
    assert best(tmp_path / "c.jsonl", rows, base) == first and not base.weighed


def test_the_next_of_another_dialog() -> None:
    assert [another(["a", "a", "b", "a"], at) for at in range(4)] == [2, 2, 3, 2]
    assert [another(["a", "a"], at) for at in range(2)] == [0, 1]
