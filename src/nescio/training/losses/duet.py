"""DUET: the model learns the logits that it has itself when it is told to refuse; only the question is needed.

Zhong, Yang and Zhu 2026, "DUET: Distilled LLM Unlearning from an Efficiently Contextualized Teacher" (2601.21283),
eq. 3, at the first token of the answer.
"""

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss


def prompted(logits: Tensor, tokens: Tensor, beta: float) -> Tensor:
    """Return the logits, as they are: they are those of the model that was told to refuse."""
    return logits


@LOSSES.register("duet")
@pair_loss(answers=("rejected",), uses_twins=False, teacher=prompted, is_prompted=True)
def duet(of: Likelihoods) -> Terms:
    """Return the sum of Huber(z student - z teacher) over the teacher's likeliest tokens, at each first token."""
    assert of.targets is not None  # its teacher has made them
    first = torch.diff(of.answer_of, prepend=of.answer_of.new_tensor([-1])) != 0  # [m]
    ids, values = (kept.to(of.logits.device)[first] for kept in (of.targets.ids.long(), of.targets.log_probs))
    return {"loss": huber_loss(of.logits[first].gather(1, ids), values, reduction="none").sum(-1)}
