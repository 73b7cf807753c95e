"""What a row of vLLM's batch carries: which request it belongs to, as which branch, and how its tokens are chosen.

A row is one vLLM request. Its place is `SamplingParams.extra_args`, which vLLM hands on unread to its scheduler and to
its logits processors. Knows nothing of either, nor of prompts.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nescio.core.guidance import Guidance, Space

_PLACE = "nescio"

Role = Literal["positive", "negative", "alone"]


@dataclass(frozen=True, slots=True)
class Row:
    """One branch of a request.

    Attributes:
        key: The request's, shared by both of its branches.
        role: `positive` and `negative` make a pair; `alone` is an unguided request whose token is chosen here all the
            same, because its log-probabilities are asked for.
        scale: γ.
        space: `log` (eq. 2) or `prob` (eq. 6).
        plausibility: Share of the largest positive probability below which tokens are ruled out.
        adaptive: Whether the scale follows the branches' divergence.
        temperature: 0 is greedy, and so is what lies below 1e-5.
        top_p: Nucleus of the guided distribution.
        top_k: Most likely tokens to draw from; 0 is all.
        seed: With the token's place in the answer, it decides the draw.
        forced: Tokens to emit instead of choosing, when a given continuation is scored.
    """

    key: str
    role: Role
    scale: float = 1.0
    space: Space = "prob"
    plausibility: float = 0.0
    adaptive: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    forced: tuple[int, ...] = ()

    def extra_args(self) -> dict[str, Any]:
        """The row as `SamplingParams.extra_args`."""
        return {_PLACE: asdict(self)}

    @classmethod
    def of(cls, sampling_params: Any) -> "Row | None":
        """The row that vLLM's sampling parameters carry; None: a request that vLLM serves by itself.

        Raises:
            ValueError: What they carry is no row.
        """
        carried = (getattr(sampling_params, "extra_args", None) or {}).get(_PLACE)
        if carried is None:
            return None
        try:
            row = cls(**{**carried, "forced": tuple(carried.get("forced", ()))})
            Guidance(row.scale, row.space, plausibility=row.plausibility, adaptive=row.adaptive)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"extra_args[{_PLACE!r}] is not what nescio writes: {error}") from error
        return row


@dataclass(frozen=True, slots=True)
class Team:
    """The rows of one request in a batch, by their row numbers; alone, both are the same."""

    row: Row
    positive: int
    negative: int
    position: int


def teams(rows: Mapping[int, tuple[Row, int]]) -> list[Team]:
    """Find who belongs together in a batch.

    Args:
        rows: By row number, each row whose token is chosen here, and how many tokens its answer has already; below
            zero, it is still reading its prompt.

    Returns:
        The teams that are whole and in step. Rows that are left out are the scheduler's to take back.
    """
    negatives = {row.key: number for number, (row, _) in rows.items() if row.role == "negative"}
    found = []
    for number, (row, position) in rows.items():
        if row.role == "negative" or position < 0:
            continue
        other = number if row.role == "alone" else negatives.get(row.key)
        if other is not None and rows[other][1] == position:
            found.append(Team(row, number, other, position))
    return found
