"""Negative preference optimisation: DPO with the rejected answer alone.

Zhang, Lin, Bai and Mei 2024, "Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning",
eq. 3.
"""

from torch.nn.functional import logsigmoid

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss


@LOSSES.register("npo")
@pair_loss(answers=("rejected",), uses_twins=False, needs_reference=True)
def npo(of: Likelihoods, beta: float) -> Terms:
    """Return -2/beta log sigmoid(-beta (log p - log p before training)); gradient ascent as beta goes to 0."""
    reward = beta * (of.sums() - of.reference)
    return {"loss": -2 / beta * logsigmoid(-reward), "rejected_reward": reward}
