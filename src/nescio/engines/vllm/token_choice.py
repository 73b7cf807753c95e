"""Choosing the tokens of a whole batch: guidance, sampling and what is written back, in one set of tensor operations.

Knows tensors and teams of rows; nothing of vLLM. Both of vLLM's model runners end here.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nescio.core.guidance import guide
from nescio.engines.decode.sampling import COLDEST
from nescio.engines.vllm.branch_rows import Team

_SEED_BITS = (1 << 64) - 1


def choose(logits: Tensor, teams: Sequence[Team]) -> Tensor:
    """Choose a token for each team and make vLLM's greedy sampler emit it on all of the team's rows.

    A chosen token's value is mirrored above zero, where no log-probability lies, so that it is the largest of its row
    and can still be read (`told`).

    Args:
        logits: `[rows, vocab]` in fp32, changed in place; rows of no team are left as they are.
        teams: Who belongs together.

    Returns:
        The logits: in a team's rows the guided log-probabilities, the chosen token's mirrored.
    """
    if not teams:
        return logits
    positive = _numbers([team.positive for team in teams], logits)
    negative = _numbers([team.negative for team in teams], logits)
    log_probs = guide(
        logits[positive],
        logits[negative],
        _values([team.row.scale for team in teams], logits),
        [team.row.space for team in teams],
        _values([team.row.plausibility for team in teams], logits) if any(t.row.plausibility for t in teams) else 0.0,
        [team.row.adaptive for team in teams],
    )
    tokens = _tokens(log_probs, teams)[:, None]
    log_probs.scatter_(1, tokens, 1 - log_probs.gather(1, tokens))
    logits[negative] = log_probs
    logits[positive] = log_probs
    return logits


def told(value: float) -> float:
    """The log-probability that a value of a row stands for, mirrored or not."""
    return 1 - value if value > 0.5 else value


def _tokens(log_probs: Tensor, teams: Sequence[Team]) -> Tensor:
    tokens = log_probs.argmax(-1)
    drawn = [index for index, team in enumerate(teams) if team.row.temperature >= COLDEST]
    if drawn:
        rows = [teams[index].row for index in drawn]
        tokens[drawn] = draw(
            log_probs[drawn],
            _values([row.temperature for row in rows], log_probs),
            _values([row.top_p for row in rows], log_probs),
            _numbers([row.top_k for row in rows], log_probs),
            _values(
                [uniform(teams[index].row.seed, teams[index].position) for index in drawn], log_probs, torch.double
            ),
        )
    forced = [index for index, team in enumerate(teams) if team.position < len(team.row.forced)]
    if forced:
        tokens[forced] = _numbers([teams[index].row.forced[teams[index].position] for index in forced], log_probs)
    return tokens


def draw(log_probs: Tensor, temperature: Tensor, top_p: Tensor, top_k: Tensor, uniforms: Tensor) -> Tensor:
    """Draw a token of each row by inverting its distribution function: a row's draw depends on nothing but the row.

    Args:
        log_probs: `[rows, vocab]`, normalised.
        temperature: `[rows]`, not below `COLDEST`.
        top_p: `[rows]`: the smallest set of most likely tokens whose mass reaches this.
        top_k: `[rows]`: that many most likely tokens; 0 keeps all.
        uniforms: `[rows]` in [0, 1), fp64.

    Returns:
        `[rows]` token ids.
    """
    probs = (log_probs / temperature[:, None]).softmax(-1)
    ordered, order = probs.sort(dim=-1, descending=True)
    places = torch.arange(ordered.shape[-1], device=ordered.device)
    ordered = ordered.masked_fill((top_k[:, None] > 0) & (places >= top_k[:, None]), 0)
    ordered = ordered.double() / ordered.double().sum(-1, keepdim=True)
    # The likeliest is kept, whatever is left of its `top_p` in fp32.
    ordered = ordered.masked_fill((ordered.cumsum(-1) - ordered >= top_p[:, None]) & (places > 0), 0)
    below = ordered.cumsum(-1)
    # The first token whose mass carries the sum past the mark; of no mass, it cannot.
    at = torch.searchsorted(below, uniforms[:, None] * below[:, -1:], right=True)
    last = (ordered > 0).sum(-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(at, last))[:, 0]


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that decides the draw at a place of an answer: the same wherever and beside whom it runs."""
    return float(np.random.Generator(np.random.Philox(key=(seed & _SEED_BITS) | position << 64)).random())


def _numbers(values: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.long, device=like.device)


def _values(values: Sequence[float], like: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=like.device)
