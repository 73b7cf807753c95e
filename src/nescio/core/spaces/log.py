"""Log space: the branches' log-probabilities are combined (Smirnov, eq. 2; Sanchez et al. 2023, eq. 1)."""

import torch
from torch import Tensor

from nescio.core.spaces import SPACES


@SPACES.register("log")
def log_space(positive: Tensor, negative: Tensor, gamma: Tensor) -> Tensor:
    """Return log p = log p⁻ + γ (log p⁺ - log p⁻), renormalised."""
    guided = negative + gamma * (positive - negative)
    # A token that a branch rules out (-inf) can give inf - inf. If the positive branch rules it out, it stays out. If
    # only the negative branch does, eq. 2 diverges to +inf, and the positive log-probability is the finite choice.
    if bool(guided.isnan().any()):
        guided = torch.where(negative == -torch.inf, positive, guided)
        guided = guided.masked_fill(positive == -torch.inf, -torch.inf)
    return guided.log_softmax(-1)
