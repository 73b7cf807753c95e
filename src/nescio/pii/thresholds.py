"""Thresholds of detectors that give scores: one for all types, others for some."""

from collections.abc import Mapping

from nescio.core.errors import NescioError
from nescio.pii.taxonomy import PiiType, checked_type

LEAST_SCORE = 0.35
"""Presidio gives 0.01 to every number that may be something; what has no checksum and no context stays below this."""

_OTHERS = "default"


class Thresholds:
    """The least score with which a span counts, by its type.

    Args:
        given: Score by type; `default` is that of the other types.
        where: What the scores are given to, in the user's words; begins an error's line.

    Raises:
        NescioError: A type is unknown, or a score is not from 0 to 1.
    """

    def __init__(self, given: Mapping[str, float] | None, where: str) -> None:
        self._scores = {_OTHERS: LEAST_SCORE, **(given or {})}
        for kind, score in self._scores.items():
            if kind != _OTHERS:
                checked_type(kind, f"{where}: thresholds")
            if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                raise NescioError(f"{where}: thresholds.{kind}: {score!r} is out of range; give a number from 0 to 1")

    @property
    def least(self) -> float:
        """The lowest of them."""
        return min(self._scores.values())

    def passes(self, kind: PiiType, score: float) -> bool:
        """Whether a span of a type counts with its score."""
        return score >= self._scores.get(kind, self._scores[_OTHERS])
