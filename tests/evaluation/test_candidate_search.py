"""The search from outside: halving spends what it says, and a score is a number whatever guidance rules out."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from nescio.core.callbacks import Progress
from nescio.engines.base import Answer, Engine, Request, Scoring, TooLongError
from nescio.evaluation.candidate_search import halve, likelihoods, scorings
from nescio.evaluation.setups import Setup


class Scores(Engine):
    """Scores a token 1 less than nothing for each letter of the text, "x" not at all, and takes short prompts alone."""

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        raise NotImplementedError

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        if any("long" in str(item.prompt) for item in items):
            raise TooLongError("too long", 0)
        return [[-1.0, -math.inf if item.continuation == "x" else -float(len(item.continuation))] for item in items]


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_what_cannot_be_said_or_does_not_fit_has_a_number() -> None:
    items = [(said("a"), "abc"), (said("b"), "x"), (said("long"), "abc"), (said("c"), "ab")]
    assert likelihoods(Scores(), Setup("a", "a", "m"), items) == [-2.0, -25.5, -50.0, -1.5]


@pytest.mark.parametrize("count", [1, 3, 40, 101])
def test_halving_finds_the_best_with_as_many_scores_as_it_says(count: int) -> None:
    asked = list[tuple[int, int]]()

    def score(case: int, tried: Sequence[int]) -> list[float]:
        asked.extend((case, each) for each in tried)
        return [-abs(each - count // 2) * case for each in tried]

    rounds = ((2, 4), (3, 2))
    left = halve(range(count), [1, 2, 3, 4, 5], rounds, 4, score)
    assert left[0] == (count // 2, 0)
    assert [total for _, total in left] == sorted((total for _, total in left), reverse=True)
    assert len(asked) == len(set(asked)) == scorings(count, rounds, 4)
    assert len(left) == min(count, max(count // 8, 4))
