"""Probability space: the branches' probabilities are combined (Smirnov, eq. 6)."""

import torch
from torch import Tensor

from nescio.core.spaces import SPACES


@SPACES.register("prob")
def prob_space(positive: Tensor, negative: Tensor, gamma: Tensor) -> Tensor:
    """Return log p of p = max(0, p⁻ + γ (p⁺ - p⁻)), renormalised.

    The sum before clamping is 1, so some probability is positive at any scale.
    """
    negative_p = negative.exp()
    mass = (negative_p + gamma * (positive.exp() - negative_p)).clamp_min(0)
    mass = mass / mass.sum(-1, keepdim=True)
    is_zero = mass == 0  # most tokens, and the logarithm of 0 is slow on a CPU
    return mass.masked_fill_(is_zero, 1).log_().masked_fill_(is_zero, -torch.inf)
