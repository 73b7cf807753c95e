"""Odds ratio preference optimisation: one loss that teaches the chosen answer and turns away from the rejected.

Hong, Lee and Thorne 2024, "ORPO: Monolithic Preference Optimization without Reference Model", eqs. 6 and 7. Knows
log-probabilities only.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_TINY = 1e-7  # log p is kept this far below 0: at p = 1 the odds are infinite


@dataclass(frozen=True, slots=True)
class OrpoLoss:
    """The loss of a batch of pairs, and what it is made of; each `[pairs]` but the loss."""

    loss: Tensor
    nll: Tensor
    odds_loss: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor


def orpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> OrpoLoss:
    """ORPO's loss: NLL of the chosen answer plus β times -log sigmoid of the log odds ratio.

    Args:
        chosen: `[pairs]` mean log-probability of the chosen answer's tokens (length-normalised).
        rejected: The same of the rejected answer.
        beta: Weight of the odds ratio (the paper's λ, TRL's β).

    Returns:
        The mean loss over pairs, its parts, and the rewards β log p.
    """
    log_odds = (chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected))
    nll, odds_loss = -chosen, -logsigmoid(log_odds)
    return OrpoLoss((nll + beta * odds_loss).mean(), nll, odds_loss, beta * chosen, beta * rejected)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, finite as x → 0 (Mächler 2012)."""
    x = x.clamp_max(-_TINY)
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
