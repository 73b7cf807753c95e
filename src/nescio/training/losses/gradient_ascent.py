"""Gradient ascent: the rejected answer becomes less likely, without end.

The oldest baseline of unlearning; Yao, Xu and Liu 2024, "Large Language Model Unlearning" (reference 3 of the paper),
eq. 3 without its retain terms. It has no minimum: stop it early.
"""

from torch import Tensor

from nescio.training.batch import Likelihoods


def gradient_ascent(of: Likelihoods) -> dict[str, Tensor]:
    """Mean log-likelihood over all tokens of the batch; examples of one answer each."""
    return {"loss": of.sums() / of.counts().mean()}
