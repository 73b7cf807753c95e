"""Odds ratio preference optimisation: one loss that teaches the chosen answer and turns away from the rejected one.

Hong, Lee and Thorne 2024, "ORPO: Monolithic Preference Optimization without Reference Model", eqs. 6 and 7.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss, preference_terms
from nescio.training.settings import NllOver

_TINY = 1e-7  # log p stays this far below 0: at p = 1 the odds are infinite


@LOSSES.register("orpo")
@pair_loss()
def orpo(of: Likelihoods, beta: float, nll_over: NllOver = "answer") -> Terms:
    """Return the NLL of the chosen answer plus beta times -log sigmoid of the log odds ratio.

    Log p is the mean over an answer's tokens.

    Args:
        of: Likelihoods of pairs.
        beta: Weight of the odds ratio (the paper's λ, TRL's β).
        nll_over: `answer`, so that nothing is learned that stands in a prompt; or `prompt_and_answer`, the mean over
            all tokens of the batch, as in TRL's ORPO.
    """
    chosen, rejected = of.means().reshape(-1, 2).unbind(1)  # [pairs] each
    log_odds = (chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected))
    nll, odds_loss = -chosen, -logsigmoid(log_odds)
    if nll_over == "prompt_and_answer":
        counts = of.counts(prompt=True)[::2]
        nll = -of.sums(prompt=True)[::2] / counts.mean()
    terms = preference_terms(nll + beta * odds_loss, nll, beta * chosen, beta * rejected)
    return terms | {"odds_loss": odds_loss}


def log1mexp(x: Tensor) -> Tensor:
    """Return log(1 - exp(x)) for x <= 0, finite as x goes to 0 (Mächler 2012)."""
    x = x.clamp_max(-_TINY)
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
