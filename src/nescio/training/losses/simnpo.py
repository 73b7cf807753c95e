"""Simple negative preference optimisation: NPO without a reference, per token.

Fan et al. 2024, "Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning", eq. 4 with a
margin γ of 0, its authors' choice. Their β on TOFU is 2.5 to 4.5.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from nescio.training.batch import Likelihoods, Loss


def simnpo(beta: float) -> Loss:
    """-2/β log sigmoid(-β log p) of examples of one answer, log p being the mean over its tokens."""

    def loss(of: Likelihoods) -> dict[str, Tensor]:
        reward = beta * of.means()
        return {"loss": -2 / beta * logsigmoid(-reward), "rejected_reward": reward}

    return loss
