"""Simple negative preference optimisation: NPO without a reference, per token.

Fan et al. 2024, "Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning", eq. 4 with a
margin γ of 0, its authors' choice. Their β on TOFU is 2.5 to 4.5.
"""

from torch.nn.functional import logsigmoid

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss


@LOSSES.register("simnpo")
@pair_loss(answers=("rejected",), uses_twins=False)
def simnpo(of: Likelihoods, beta: float) -> Terms:
    """Return -2/beta log sigmoid(-beta log p), log p being the mean over an answer's tokens."""
    reward = beta * of.means()
    return {"loss": -2 / beta * logsigmoid(-reward), "rejected_reward": reward}
