"""What a row of vLLM's batch carries: the request and branch it belongs to, and how its tokens are chosen.

A row is one vLLM request. Its data travels in `SamplingParams.extra_args`, which vLLM passes on, unread, to its
scheduler and its logits processors.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance

_KEY = "nescio"  # in `extra_args`

Role = Literal["positive", "negative", "alone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchRow:
    """One branch of a request.

    Attributes:
        request: Name of the request, shared by both of its branches.
        role: `positive` and `negative` form a pair. `alone` is an unguided request whose token is chosen here all the
            same, because its log-probabilities are asked for.
        guidance: How the pair is combined.
        temperature: 0 is greedy, and so is any value below 1e-5.
        top_p: Nucleus of the guided distribution.
        top_k: Most likely tokens to draw from; 0 is all.
        min_p: Least share of the likeliest token's probability; 0 is all.
        logit_bias: Added to the guided log-probabilities: tokens and numbers.
        seed: With the token's position in the answer, it decides the draw.
        forced: Tokens to emit instead of choosing, when a given continuation is scored.
    """

    request: str
    role: Role
    guidance: Guidance = field(default_factory=Guidance)
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    forced: tuple[int, ...] = ()

    def extra_args(self) -> dict[str, Any]:
        """Return the row as `SamplingParams.extra_args`."""
        return {_KEY: asdict(self)}

    @classmethod
    def of(cls, sampling_params: Any) -> "BranchRow | None":
        """Return the row that vLLM's sampling parameters carry; None for a request that vLLM serves by itself.

        Raises:
            ValueError: They carry something else.
        """
        carried = (getattr(sampling_params, "extra_args", None) or {}).get(_KEY)
        if carried is None:
            return None
        try:
            own = {
                "guidance": Guidance(**carried["guidance"]),
                "logit_bias": tuple((token, added) for token, added in carried["logit_bias"]),
                "forced": tuple(carried["forced"]),
            }
            return cls(**{**carried, **own})
        except (TypeError, ValueError, KeyError, NescioError) as error:
            raise ValueError(f"extra_args[{_KEY!r}] is not what nescio writes: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRows:
    """The rows of one request in a batch, by row number; `positive` and `negative` are equal for a row alone.

    Attributes:
        row: Settings of the request.
        positive: Row of the positive branch.
        negative: Row of the negative branch.
        position: Number of tokens that the answer already has.
    """

    row: BranchRow
    positive: int
    negative: int
    position: int


def rows_in_step(rows: Mapping[int, tuple[BranchRow, int]]) -> list[RequestRows]:
    """Find the rows of a batch that belong together and are at the same position.

    Args:
        rows: By row number, each row whose token is chosen here, and the number of tokens that its answer already has;
            negative while it still reads its prompt.

    Returns:
        The complete requests. All other rows are left out; the scheduler takes their tokens back.
    """
    negatives = {row.request: number for number, (row, _) in rows.items() if row.role == "negative"}
    found = []
    for number, (row, position) in rows.items():
        if row.role == "negative" or position < 0:
            continue
        other = number if row.role == "alone" else negatives.get(row.request)
        if other is not None and rows[other][1] == position:
            found.append(RequestRows(row=row, positive=number, negative=other, position=position))
    return found
