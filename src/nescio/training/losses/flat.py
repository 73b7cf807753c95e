"""FLAT: a weighting of chosen against rejected answers that maximises an f-divergence between the two.

Wang et al. 2025, "LLM Unlearning via Loss Adjustment with Only Forget Data" (ICLR), eqs. 4 to 6, with total variation:
g*(v) = tanh(v) / 2 and f*(u) = u. The rejected answer is their forget answer, the chosen one their template answer.
"""

import torch

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss, preference_terms


@LOSSES.register("flat")
@pair_loss()
def flat(of: Likelihoods) -> Terms:
    """Return f*(g*(P rejected)) - g*(P chosen) of pairs, P being the mean probability of an answer's tokens."""
    chosen, rejected = (torch.tanh(of.probabilities()) / 2).reshape(-1, 2).unbind(1)  # [pairs] each
    return preference_terms(rejected - chosen, -of.means()[::2], chosen, rejected)
