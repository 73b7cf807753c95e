"""Sampling a token of each row of a batch; all but vLLM's unguided requests draw here."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nescio.engines.request import Request

COLDEST = 1e-5
"""A lower temperature is greedy: log-probabilities divided by it would overflow."""

_FEW = 1024  # most likely tokens that are ordered first
_SEED_BITS = (1 << 64) - 1


class SamplingSettings(Protocol):
    """What decides a draw; a `Request` is one."""

    @property
    def temperature(self) -> float:
        """0 is greedy, and so is any value below `COLDEST`."""

    @property
    def top_p(self) -> float:
        """Smallest set of most likely tokens whose mass reaches this; 1 keeps all."""

    @property
    def top_k(self) -> int:
        """That many most likely tokens; 0 keeps all."""

    @property
    def min_p(self) -> float:
        """Least probability of a token, as a share of the likeliest token's; 0 keeps all."""

    @property
    def seed(self) -> int:
        """Seed of the request; any integer."""


def bias_of(request: Request, answer: Sequence[int]) -> dict[int, float]:
    """Return what a request adds to log-probabilities, by token: its bias minus its penalties.

    They are those of OpenAI's API; tokens of the prompt don't count.

    Args:
        request: Its bias and penalties.
        answer: Tokens that the answer already has.
    """
    added = dict(request.logit_bias)
    if request.presence_penalty or request.frequency_penalty:
        for token, count in Counter(answer).items():
            penalty = request.presence_penalty + request.frequency_penalty * count
            added[token] = added.get(token, 0.0) - penalty
    return added


def biased(log_probs: Tensor, added: Sequence[Mapping[int, float]]) -> Tensor:
    """Return log-probabilities with the bias of each row, no longer normalised.

    Args:
        log_probs: `[rows, vocab]`; not changed.
        added: To each row, by token.
    """
    if any(added):
        log_probs = log_probs.clone()
    for row, own in enumerate(added):
        if own:
            tokens = torch.tensor([*own], device=log_probs.device)
            log_probs[row, tokens] += torch.tensor([*own.values()], dtype=log_probs.dtype, device=log_probs.device)
    return log_probs


def choose(log_probs: Tensor, settings: Sequence[SamplingSettings], positions: Sequence[int]) -> Tensor:
    """Choose one token for each row; the greedy choice is the first of equals.

    Args:
        log_probs: `[rows, vocab]`, normalised or `biased`.
        settings: Settings of each row.
        positions: Number of tokens that each row's answer already has. Seed and position decide a draw, so it is the
            same in any batch and in any engine.

    Returns:
        `[rows]` token ids.
    """
    tokens = log_probs.argmax(-1)
    drawn = [row for row, own in enumerate(settings) if own.temperature >= COLDEST]
    if drawn:
        own = [settings[row] for row in drawn]
        device = torch.device("cpu") if log_probs.device.type == "mps" else log_probs.device  # mps has no fp64
        marks = [uniform(settings[row].seed, positions[row]) for row in drawn]
        tokens[drawn] = draw(
            log_probs[drawn].to(device),
            temperature=torch.tensor([one.temperature for one in own], device=device),
            top_p=torch.tensor([one.top_p for one in own], device=device),
            top_k=torch.tensor([one.top_k for one in own], device=device),
            min_p=torch.tensor([one.min_p for one in own], device=device),
            uniforms=torch.tensor(marks, dtype=torch.double, device=device),
        ).to(tokens.device)
    return tokens


def draw(
    log_probs: Tensor, *, temperature: Tensor, top_p: Tensor, top_k: Tensor, min_p: Tensor, uniforms: Tensor
) -> Tensor:
    """Draw a token of each row by inverting its distribution function in the order of the vocabulary.

    A row's draw depends on no other row. The order of the vocabulary needs no sorting, and a small change of the
    probabilities moves the draw to a neighbour only at the edges.

    Args:
        log_probs: `[rows, vocab]`, normalised or `biased`.
        temperature: `[rows]`, not below `COLDEST`.
        top_p: `[rows]`: the smallest set of most likely tokens whose mass reaches this.
        top_k: `[rows]`: that many most likely tokens; 0 keeps all.
        min_p: `[rows]`: least share of the likeliest token's probability; 0 keeps all.
        uniforms: `[rows]` in [0, 1), fp64.

    Returns:
        `[rows]` token ids.
    """
    # 1) temperature
    probs = (log_probs.float() / temperature[:, None]).softmax(-1)
    # 2) min-p, then top-k and top-p of what it leaves, where a row has one
    probs = probs.masked_fill(probs < min_p[:, None] * probs.amax(-1, keepdim=True), 0)
    restricted = (top_k > 0) | (top_p < 1)
    if bool(restricted.any()):
        own = probs[restricted]
        probs[restricted] = own.masked_fill(own < _threshold(own, top_p[restricted], top_k[restricted]), 0)
    # 3) the first token whose mass carries the sum past the mark; a token of no mass cannot
    below = probs.cumsum(-1, dtype=torch.double)
    total = below[:, -1:]
    mark = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(below, mark, right=True)[:, 0]


def _threshold(probs: Tensor, top_p: Tensor, top_k: Tensor) -> Tensor:
    """Return the least probability `[rows, 1]` within each row's top-k and top-p; equals of it are within, too."""
    every = probs.shape[-1]
    most = torch.where(top_k > 0, top_k, every).clamp_max(every)  # [rows]
    # Ordering a whole vocabulary takes as long as a small model's step, and few distributions are so flat.
    least, is_known = _least_of(probs, top_p, top_k, min(_FEW, int(most.max())))
    if not bool(is_known.all()):
        left = ~is_known
        least[left] = _least_of(probs[left], top_p[left], top_k[left], int(most[left].max()))[0]
    return least


def _least_of(probs: Tensor, top_p: Tensor, top_k: Tensor, few: int) -> tuple[Tensor, Tensor]:
    """Return `_threshold` from some of the most likely tokens, and for which rows these are enough, `[rows]`."""
    # Sums run in order, so that what is cut off behind them changes no bit.
    ordered = probs.topk(few).values
    places = torch.arange(few, device=ordered.device)
    outside = (top_k[:, None] > 0) & (places >= top_k[:, None])
    mass = ordered.double().masked_fill(outside, 0)
    below = mass.cumsum(-1)
    has_k = (top_k > 0) & (top_k <= few)
    wanted = top_p * torch.where(has_k, below[:, -1], probs.cumsum(-1, dtype=torch.double)[:, -1])
    outside |= (below - mass >= wanted[:, None]) & (places > 0)  # the likeliest always stays
    is_known = has_k | ((top_k == 0) & (below[:, -1] >= wanted)) | (few == probs.shape[-1])
    return ordered.masked_fill(outside, torch.inf).amin(-1, keepdim=True), is_known


def uniform(seed: int, position: int) -> float:
    """Return the number in [0, 1) that decides the draw at a position of an answer (Philox, keyed by both)."""
    return float(np.random.Generator(np.random.Philox(key=(seed & _SEED_BITS) | position << 64)).random())
