"""Picking a token from log-probabilities. Knows nothing of models or requests."""

import torch
from torch import Tensor

COLDEST = 1e-5
"""A lower temperature is greedy: log-probabilities divided by it would overflow."""


def pick(log_probs: Tensor, temperature: float, top_p: float, top_k: int, generator: torch.Generator | None) -> int:
    """Pick one token.

    Args:
        log_probs: `[vocab]`, normalised.
        temperature: Below `COLDEST` it is greedy (the first of equals).
        top_p: Smallest set of most likely tokens whose mass reaches this; 1 keeps all.
        top_k: That many most likely tokens; 0 keeps all.
        generator: On the CPU; sampling there makes a seed's draws the same whatever the device or the neighbours.
    """
    if temperature < COLDEST:
        return int(log_probs.argmax())
    scores = (log_probs.float().cpu() / temperature).log_softmax(-1)
    if top_k and top_k < scores.numel():
        scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -torch.inf)
    if top_p < 1:
        ordered, order = scores.softmax(-1).sort(descending=True)
        surplus = ordered.cumsum(-1) - ordered >= top_p
        surplus[0] = False  # whatever is left of `top_p` in fp32
        scores = scores.index_fill(0, order[surplus], -torch.inf)
    return int(torch.multinomial(scores.softmax(-1), 1, generator=generator))
