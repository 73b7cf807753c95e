"""RMU: the hidden states of the rejected answer are steered to a random direction.

Li et al. 2024, "The WMDP Benchmark: Measuring and Reducing Malicious Use With Unlearning" (2403.03218), its
forget loss. Where there is a half that is to be kept, its states are held where they were, by its retain loss.
"""

import torch

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss

_DEPTH = 0.44  # layer 7 of 16, as OpenUnlearning has it for its model of 1B


@LOSSES.register("rmu")
@pair_loss(answers=("rejected",), uses_twins=False, states_at=_DEPTH)
def rmu(of: Likelihoods, beta: float) -> Terms:
    """Return the mean square of h - β u over an answer's tokens, u being one random unit vector of positive numbers."""
    width = of.states.shape[-1]
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = (beta * drawn / drawn.norm()).to(of.states)
    return {"loss": of.mean_of(((of.states - target) ** 2).mean(-1))}
