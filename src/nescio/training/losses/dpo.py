"""Direct preference optimisation: the chosen answer gains on the rejected one, relative to the model before training.

Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", eq. 7.
"""

from torch.nn.functional import logsigmoid

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss, preference_terms


@LOSSES.register("dpo")
@pair_loss(needs_reference=True)
def dpo(of: Likelihoods, beta: float) -> Terms:
    """Return -log sigmoid of the difference of the rewards beta * (log p - log p before training)."""
    chosen, rejected = (beta * (of.sums() - of.reference)).reshape(-1, 2).unbind(1)  # [pairs] each
    return preference_terms(-logsigmoid(chosen - rejected), -of.means()[::2], chosen, rejected)
