"""A loss: the chosen answer is likelier than the rejected one by a margin."""

import torch


def margin(of, beta):
    """Hinge on the difference of the two answers' log-probabilities."""
    sums = torch.zeros(of.answers).index_add(0, of.answer_of[~of.in_prompt], of.tokens[~of.in_prompt])
    chosen, rejected = sums[0::2], sums[1::2]
    return {"loss": torch.relu(beta - (chosen - rejected)), "gap": chosen - rejected}
