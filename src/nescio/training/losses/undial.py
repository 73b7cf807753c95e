"""UNDIAL: the model distils itself, with the logit of each token of the rejected answer lowered.

Dong et al. 2025, "UNDIAL: Self-Distillation with Adjusted Logits for Robust Unlearning in Large Language Models"
(2402.10052). Their β is 3 to 30, and they have no retain half.
"""

from torch import Tensor

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss


def lowered(logits: Tensor, tokens: Tensor, beta: float) -> Tensor:
    """Return log softmax(z - β e_y) at each token y of an answer: the distribution that the student learns.

    Args:
        logits: `[n, vocab]`, of the model before training.
        tokens: `[n]`.
        beta: How much is taken off.
    """
    less = logits.scatter_add(1, tokens[:, None], logits.new_full((len(tokens), 1), -beta))
    return less.log_softmax(-1)


@LOSSES.register("undial")
@pair_loss(answers=("rejected",), uses_twins=False, teacher=lowered)
def undial(of: Likelihoods) -> Terms:
    """Return the mean KL over an answer's tokens; the published cross-entropy less its part that does not change."""
    return {"loss": of.divergences()}
