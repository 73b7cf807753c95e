"""Negative preference optimisation: DPO with nothing but the rejected answer.

Zhang, Lin, Bai and Mei 2024, "Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning",
eq. 3.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from nescio.training.batch import Likelihoods, Loss


def npo(beta: float) -> Loss:
    """-2/β log sigmoid(-β (log p - log p before training)) of examples of one answer; gradient ascent as β → 0."""

    def loss(of: Likelihoods) -> dict[str, Tensor]:
        reward = beta * (of.sums() - of.reference)
        return {"loss": -2 / beta * logsigmoid(-reward), "rejected_reward": reward}

    return loss
