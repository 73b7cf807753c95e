"""Log-probabilities of a few tokens at each position, without a distribution over the whole vocabulary in memory.

Beside the logits only their gradient is as large as they are. Everything between is computed for a few positions at a
time, so that a CPU finds it in its cache: by PyTorch's own operations it would pass through memory eight times.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CPU, _GPU = 1 << 20, 1 << 25  # numbers at a time: 4 MiB stay in a CPU's cache; a GPU wants few, large kernels


def token_log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the log-probabilities `[n, k]` of tokens, in fp32 or in the logits' type if that is finer.

    Args:
        logits: `[n, vocab]`, normalised or not.
        ids: `[n, k]`: tokens of each position.
    """
    chosen: Tensor = _TokenLogProbs.apply(logits, ids)  # type: ignore[no-untyped-call]
    return chosen


class _TokenLogProbs(torch.autograd.Function):
    """log p(t) = l(t) - log Σ exp l, whose gradient is that of t less the probabilities."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor) -> Tensor:
        """Compute the log-probabilities."""
        fine = torch.promote_types(logits.dtype, torch.float32)
        parts = torch.split(logits, _positions(logits))
        totals = torch.cat([part.to(fine).logsumexp(-1, keepdim=True) for part in parts])
        ctx.save_for_backward(logits, ids, totals)  # totals: [n, 1]
        return logits.gather(1, ids).to(fine) - totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the logits."""
        logits, ids, totals = ctx.saved_tensors
        of_logits, added = torch.empty_like(logits), gradients.sum(-1, keepdim=True)  # [n, vocab], [n, 1]
        every = (torch.split(x, _positions(logits)) for x in (logits, ids, totals, gradients, added, of_logits))
        for part, own, total, gradient, sums, out in zip(*every, strict=True):
            place = out if out.dtype == total.dtype else None  # else the finer type needs one of its own
            shares = torch.sub(part, total, out=place).exp_().mul_(-sums)  # [positions, vocab]
            out.copy_(shares.scatter_add_(1, own, gradient))
        return of_logits, None


def _positions(logits: Tensor) -> int:
    """Return for how many positions to compute at a time."""
    return max(1, (_CPU if logits.device.type == "cpu" else _GPU) // logits.shape[-1])
