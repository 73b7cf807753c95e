"""Attention of the decode loop on a CPU, in which a row has the same bits whatever its neighbours, in fp32.

PyTorch's fused kernel has them only for blocks of 32 queries, so fewer queries of a prompt are padded to a block: here,
and not before the linear layers, which are the costly part. A decode step's single queries take plain products, which
read keys and values where they lie; PyTorch's own plain products (SDPBackend.MATH) scale a copy of all keys first.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from nescio.core.own_attention import attached, register

QUERIES = 32
"""Queries in a block of the fused kernel."""

_NAME = "nescio_cpu"


def steady(core: Any) -> AbstractContextManager[None]:
    """Let a `replaceable` model compute with this attention inside the `with` block."""
    return attached(core, _NAME)


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, *,
    scaling: float | None = None, **how: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attend, as Transformers' attention functions do.

    Args:
        module: The attention layer.
        query: `[rows, heads, queries, size]`.
        key: `[rows, key heads, width, size]`; the query heads of a key head follow each other.
        value: `[rows, key heads, width, value size]`.
        attention_mask: `[rows, 1, queries, width]`: True where a query sees a key.
        scaling: Factor of the scores; None: size^-½.
        how: Further settings of Transformers' own function.

    Returns:
        `[rows, queries, heads, value size]`, and None in the place of the weights.
    """
    is_biased = attention_mask.dtype != torch.bool or how.get("position_bias") is not None  # rare: Doge, T5
    if is_biased or query.dtype != torch.float32:  # 16-bit scores would be ten times as coarse as the fused kernel's
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **how)
    rows, heads, queries, size = query.shape
    if queries > 1:
        lacking = (0, 0, 0, max(0, QUERIES - queries))
        query, attention_mask = pad(query, lacking), pad(attention_mask, lacking, value=True)
        out: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **how)[0]
        return out[:, :queries], None
    grouped = query.reshape(rows, key.shape[1], -1, size) * (size**-0.5 if scaling is None else scaling)
    scores = torch.matmul(grouped, key.transpose(2, 3))  # [rows, key heads, heads of each, width]
    shares = scores.masked_fill_(~attention_mask, -torch.inf).softmax(-1)
    return torch.matmul(shares, value).view(rows, 1, heads, -1), None


register(_NAME, attention)
