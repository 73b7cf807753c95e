"""Choose the tokens of a whole batch: guide, sample, and write the choice back into vLLM's logits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nescio.core.guide import guide
from nescio.engines.decode import sampling
from nescio.engines.vllm.branch_rows import RequestRows


def choose_tokens(logits: Tensor, requests: Sequence[RequestRows]) -> Tensor:
    """Choose a token for each request, and make vLLM's greedy sampler emit it on all of the request's rows.

    The log-probability l of a chosen token is replaced by 1 - l. It is above zero, where no log-probability lies, so
    it is the largest of its row; `log_probability` reads it back.

    Args:
        logits: `[rows, vocab]` in fp32, changed in place; other rows are left as they are.
        requests: Rows that belong together.

    Returns:
        The logits: in a request's rows the guided log-probabilities, with the chosen token's replaced.
    """
    if not requests:
        return logits
    positive = _tensor([request.positive for request in requests], logits)
    negative = _tensor([request.negative for request in requests], logits)
    rows, positions = [request.row for request in requests], [request.position for request in requests]
    # 1) combine the branches, [requests, vocab]
    log_probs = guide(logits[positive], logits[negative], [row.guidance for row in rows])
    # 2) choose; where a continuation is scored, its token is taken instead
    tokens = sampling.choose(sampling.biased(log_probs, [dict(row.logit_bias) for row in rows]), rows, positions)
    forced = [index for index, row in enumerate(rows) if positions[index] < len(row.forced)]
    if forced:
        tokens[forced] = _tensor([rows[index].forced[positions[index]] for index in forced], logits)
    # 3) write the distribution and the choice into both rows
    chosen = tokens[:, None]
    log_probs.scatter_(1, chosen, 1 - log_probs.gather(1, chosen))
    logits[negative] = log_probs
    logits[positive] = log_probs
    return logits


def log_probability(value: float) -> float:
    """Return the log-probability that a value of a row written by `choose_tokens` stands for."""
    return 1 - value if value > 0.5 else value


def _tensor(values: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.long, device=like.device)
