"""SHRED: the model distils itself, with the surprising tokens of the rejected answer struck out; no retain half.

Hu et al. 2026, "SHRED: Retain-Set-Free Unlearning via Self-Distillation with Logit Demotion" (2605.07482), variant A.
"""

import math

from torch import Tensor

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss


def demoted(logits: Tensor, tokens: Tensor, beta: float) -> Tensor:
    """Return log q: at the least likely tokens of an answer q(v) = p(v) 1[v ≠ token] / Z, elsewhere p itself.

    Args:
        logits: `[n, vocab]`, of the model before training.
        tokens: `[n]`.
        beta: Share of the answer's tokens that are struck out (their P), one at least; they try 10 % to all.
    """
    own = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]  # [n]
    struck = own.argsort()[: math.ceil(min(beta, 1.0) * len(tokens))]
    kept = logits.clone()
    kept[struck, tokens[struck]] = -math.inf
    return kept.log_softmax(-1)


@LOSSES.register("shred")
@pair_loss(answers=("rejected",), uses_twins=False, teacher=demoted)
def shred(of: Likelihoods) -> Terms:
    """Return the mean KL(q ‖ model) over all of an answer's tokens."""
    return {"loss": of.divergences()}
