"""Direct preference optimisation: the chosen answer gains on the rejected, measured from where the model started.

Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", eq. 7.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from nescio.training.batch import Likelihoods, Loss


def dpo(beta: float) -> Loss:
    """-log sigmoid of the difference of the rewards β (log p - log p of the model before training)."""

    def loss(of: Likelihoods) -> dict[str, Tensor]:
        chosen, rejected = (beta * (of.sums() - of.reference)).reshape(-1, 2).unbind(1)
        margin = chosen - rejected
        return {
            "loss": -logsigmoid(margin),
            "nll": -of.means()[::2],
            "chosen_reward": chosen,
            "rejected_reward": rejected,
            "margin": margin,
            "accuracy": (margin > 0).float(),
        }

    return loss
