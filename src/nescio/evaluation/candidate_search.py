"""A search from outside: candidates are ranked by how likely they make values that the searcher knows."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from nescio.core.prompts import Message
from nescio.data.samples import Sample
from nescio.engines.base import Engine, Scoring, TooLongError
from nescio.evaluation.setups import Setup

Candidate = TypeVar("Candidate")
Case = TypeVar("Case")

Known = tuple[list[Message], str]
"""A conversation, and a text that is scored as what comes next."""

Round = tuple[int, int]
"""Further cases that the candidates left are scored on, and the share of them that goes on: one in so many."""

_LEAST = -50.0  # nats: of a token that guidance rules out, and of a text that does not fit the model's context


def likelihoods(engine: Engine, setup: Setup, items: Sequence[Known]) -> list[float]:
    """Return the mean log-probability of each text, in nats a token, as a set-up asks.

    Raises:
        NoLikelihoodsError: The engine gives none.
    """
    asked = [Scoring(setup.asked(messages), text, setup.guidance, setup.attached) for messages, text in items]
    try:
        rows = engine.score_batch(asked)
    except TooLongError:
        if len(items) == 1:
            return [_LEAST]
        middle = len(items) // 2
        return [*likelihoods(engine, setup, items[:middle]), *likelihoods(engine, setup, items[middle:])]
    return [sum(max(each, _LEAST) for each in row) / len(row) for row in rows]


def up_to_value(sample: Sample) -> str:
    """Return the recorded answer up to the end of the sample's value."""
    return sample.rejected[: sample.rejected.index(sample.value) + len(sample.value)]


def halve(
    candidates: Sequence[Candidate],
    cases: Sequence[Case],
    rounds: Sequence[Round],
    fewest: int,
    score: Callable[[Case, Sequence[Candidate]], Sequence[float]],
) -> list[tuple[Candidate, float]]:
    """Find the best candidates by successive halving (Jamieson and Talwalkar 2016), which spends little on bad ones.

    Args:
        candidates: Different candidates.
        cases: What they are scored on, as many as the rounds use.
        rounds: Each scores the candidates left on further cases and keeps the best.
        fewest: Candidates that every round keeps, if there are so many.
        score: Scores candidates on a case; more is better.

    Returns:
        The candidates that are left, the best first, each with the sum of its scores.
    """
    left = [(candidate, 0.0) for candidate in candidates]
    start = 0
    for more, share in rounds:
        for case in cases[start : start + more]:
            gained = score(case, [candidate for candidate, _ in left])
            left = [(candidate, total + gain) for (candidate, total), gain in zip(left, gained, strict=True)]
        start += more
        left = sorted(left, key=lambda each: -each[1])[: max(len(left) // share, fewest)]
    return left


def scorings(candidates: int, rounds: Sequence[Round], fewest: int) -> int:
    """Return how many scores `halve` asks for."""
    total, left = 0, candidates
    for more, share in rounds:
        total += left * more
        left = min(left, max(left // share, fewest))
    return total
