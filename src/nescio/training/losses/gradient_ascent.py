"""Gradient ascent: the rejected answer becomes less likely, without bound.

The oldest baseline of unlearning; Yao, Xu and Liu 2024, "Large Language Model Unlearning" (reference 3 of the paper),
eq. 3 without its retain terms. It has no minimum: stop it early.
"""

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss


@LOSSES.register("gradient_ascent")
@pair_loss(answers=("rejected",), uses_twins=False)
def gradient_ascent(of: Likelihoods) -> Terms:
    """Return the mean log-likelihood over all tokens of the batch."""
    return {"loss": of.sums() / of.counts().mean()}
