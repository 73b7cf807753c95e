"""Odds ratio preference optimisation: one loss that teaches the chosen answer and turns away from the rejected.

Hong, Lee and Thorne 2024, "ORPO: Monolithic Preference Optimization without Reference Model", eqs. 6 and 7.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from nescio.training.batch import Likelihoods, Loss

_TINY = 1e-7  # log p is kept this far below 0: at p = 1 the odds are infinite


def orpo(beta: float, prompt: bool = False) -> Loss:
    """NLL of the chosen answer plus β times -log sigmoid of the log odds ratio, log p being means over tokens.

    Args:
        beta: Weight of the odds ratio (the paper's λ, TRL's β).
        prompt: NLL over prompt and answer, the mean over all tokens of the batch: what TRL's ORPO computes. Else over
            the answer, so that nothing is learned that stands in a prompt.

    Returns:
        The loss of pairs, its parts, and the rewards β log p.
    """

    def loss(of: Likelihoods) -> dict[str, Tensor]:
        chosen, rejected = of.means().reshape(-1, 2).unbind(1)
        log_odds = (chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected))
        nll, odds_loss = -chosen, -logsigmoid(log_odds)
        if prompt:
            counts = of.counts(prompt=True)[::2]
            nll = -of.sums(prompt=True)[::2] / counts.mean()
        margin = beta * (chosen - rejected)
        return {
            "loss": nll + beta * odds_loss,
            "nll": nll,
            "odds_loss": odds_loss,
            "chosen_reward": beta * chosen,
            "rejected_reward": beta * rejected,
            "margin": margin,
            "accuracy": (margin > 0).float(),
        }

    return loss


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, finite as x → 0 (Mächler 2012)."""
    x = x.clamp_max(-_TINY)
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
