"""Attention of packed rows on a CPU: each group of a row attends by itself.

The mask of a packed row hides its groups from each other, and PyTorch's fused kernel computes what a mask hides all the
same. Apart, g groups of one length have 1/g of the scores, and the results are the same but for rounding. Short groups
are padded to one batch and take plain products, which a CPU makes faster than the fused kernel its small blocks. In a
long group the prompt and its first continuation take the kernel's causal form, which skips half of the scores; only the
other continuations need the mask. GPUs have FlexAttention for this.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakIdKeyDictionary
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from nescio.core.own_attention import attached, register, replaceable

_NAME = "nescio_blocks"
_SHORT = 256  # tokens up to which the plain products' scores, which are kept for the backward pass, are no burden
_MOST_PADDING = 3  # times the scores that are needed


def blockwise(core: Any) -> AbstractContextManager[None]:
    """Let a model of Transformers attend group by group inside the `with` block, where it can."""
    return attached(core, _NAME) if replaceable(core) else nullcontext()


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    scaling: float | None = None, **how: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attend, as Transformers' attention functions do.

    Args:
        module: The attention layer.
        query: `[rows, heads, n, size]`.
        key: `[rows, key heads, n, size]`; the query heads of a key head follow each other.
        value: `[rows, key heads, n, value size]`.
        attention_mask: `[rows, 1, n, n]`: True where a query sees a key; or numbers that are added to the scores, or
            None, which are left to Transformers' own function.
        scaling: Factor of the scores; None: size^-½.
        how: Further settings of that function.

    Returns:
        `[rows, n, heads, value size]`, and None in the place of the weights.
    """
    is_plain = all(how.get(name) is None for name in ("position_bias", "softcap"))
    plan = None if attention_mask is None or not is_plain else _plan(attention_mask)
    if plan is None:
        out: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **how)[0]
        return out, None
    if plan.padding is not None and not how.get("dropout"):
        return plan.padding.attend(query[0], key[0], value[0], scaling)[None], None
    assert attention_mask is not None  # it has a plan
    parts, start = list[Tensor](), 0
    # Each query head has its own keys and values: for shared ones, older versions of torch have no fused kernel.
    key, value = (side.repeat_interleave(query.shape[1] // side.shape[1], 1) for side in (key, value))
    own = zip(*(torch.split(each, plan.sizes, 2) for each in (query, key, value)), strict=True)
    attend = partial(scaled_dot_product_attention, scale=scaling, dropout_p=how.get("dropout", 0.0))
    for (q, k, v), size, causal in zip(own, plan.sizes, plan.causal, strict=True):
        both = torch.split(q, [causal, size - causal], 2)
        mask = attention_mask[..., start + causal : start + size, start : start + size]
        if causal:
            parts.append(attend(both[0], k[:, :, :causal], v[:, :, :causal], is_causal=True))
        if causal < size:
            parts.append(attend(both[1], k, v, attn_mask=mask))
        start += size
    return torch.cat(parts, 2).transpose(1, 2), None


@dataclass(frozen=True, slots=True)
class _Padding:
    """Blocks of a row as a batch of g blocks of the longest's length l.

    Attributes:
        taken: `[g * l]`: the row's place of each of the batch's places; where it is padding, that of the block's first.
        back: `[n]`: the batch's place of each of the row's.
        bias: `[g, 1, l, l]`: 0 where a query sees a key, else -inf; only padding sees padding.
    """

    taken: Tensor
    back: Tensor
    bias: Tensor

    @classmethod
    def of(cls, mask: Tensor, sizes: list[int]) -> Self:
        """Lay out the blocks of a mask `[n, n]`."""
        longest = max(sizes)
        starts = torch.tensor([0, *sizes]).cumsum(0)[:-1]
        within = torch.arange(longest)
        is_own = within < torch.tensor(sizes)[:, None]  # [g, l]
        taken = torch.where(is_own, starts[:, None] + within, starts[:, None])
        seen = mask[taken[:, :, None], taken[:, None, :]] & is_own[:, None, :]
        seen |= ~is_own[:, :, None]  # a padded query sees all: its numbers are finite, and nobody reads them
        bias = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)
        return cls(taken.flatten(), is_own.flatten().nonzero()[:, 0], bias[:, None])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attend within each block.

        Args:
            query: `[heads, n, size]`.
            key: `[key heads, n, size]`.
            value: `[key heads, n, value size]`.
            scaling: Factor of the scores; None: size^-½.

        Returns:
            `[n, heads, value size]`.
        """
        (heads, _, size), (kv, _, width) = query.shape, value.shape
        g, _, length, _ = self.bias.shape
        each = heads // kv  # query heads of a key head
        # 1) queries [g * kv, each * l, size]; keys and values [g * kv, l, size]
        queries = query.index_select(1, self.taken).view(kv, each, g, length, size)
        queries = queries.permute(2, 0, 1, 3, 4).reshape(g * kv, each * length, size)
        keys, values = (
            side.index_select(1, self.taken).view(kv, g, length, -1).transpose(0, 1).reshape(g * kv, length, -1)
            for side in (key, value)
        )
        # 2) scores [g, heads, l, l], rounded to the inputs' type, and shares made of them in fp32
        scores = torch.bmm(queries * (size**-0.5 if scaling is None else scaling), keys.transpose(1, 2))
        shares = (scores.view(g, heads, length, length) + self.bias).softmax(-1).to(values.dtype)
        # 3) mean values, back in the row
        out = torch.bmm(shares.view(g * kv, each * length, length), values).view(g, heads, length, width)
        return out.transpose(1, 2).reshape(g * length, heads, width).index_select(0, self.back)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to attend under a mask.

    Attributes:
        sizes: Sizes of its blocks.
        causal: Number of rows at the start of each block that see all of it up to themselves.
        padding: How the blocks are padded, if all are short and of like length.
    """

    sizes: list[int]
    causal: list[int]
    padding: _Padding | None

    @classmethod
    def of(cls, mask: Tensor) -> Self | None:
        """Return how to attend under a mask; None if nothing is saved."""
        sizes = blocks(mask)
        longest = max(sizes, default=0)
        if not sizes or (len(sizes) == 1 and longest <= _SHORT):
            return None
        is_even = len(sizes) * longest**2 <= _MOST_PADDING * sum(size**2 for size in sizes)
        padding = _Padding.of(mask[0, 0], sizes) if longest <= _SHORT and is_even else None
        causal, start = list[int](), 0
        for size in sizes:
            own = mask[0, 0, start : start + size, start : start + size]
            causal.append(int((own == torch.ones_like(own).tril()).all(-1).cumprod(0).sum()))
            start += size
        return cls(sizes, causal, padding)


_plans: Any = WeakIdKeyDictionary()  # of each mask that is in use: all layers have the same


def _plan(mask: Tensor) -> _Plan | None:
    if mask not in _plans:
        _plans[mask] = _Plan.of(mask)
    plan: _Plan | None = _plans[mask]
    return plan


def blocks(mask: Tensor) -> list[int]:
    """Return the sizes of the blocks on a mask's diagonal outside of which it hides everything; empty if it has none.

    Args:
        mask: `[1, 1, n, n]`; any other shape or type has no blocks.
    """
    if mask.dtype != torch.bool or mask.shape[:2] != (1, 1) or mask.shape[2] != mask.shape[3]:
        return []
    seen = mask[0, 0].to(torch.uint8)
    n = len(seen)
    first = seen.argmax(-1)  # [n]: column that each row sees first
    last = n - 1 - seen.flip(-1).argmax(-1)  # [n]
    # A block starts where no row from here on sees an earlier column, and no earlier row one from here on.
    later = first.flip(0).cummin(0).values.flip(0)
    at = torch.arange(n, device=mask.device)
    starts = (later >= at) & (torch.cat([at[:1] - 1, last.cummax(0).values[:-1]]) < at)
    places = [*starts.nonzero()[:, 0].tolist(), n]
    return [end - start for start, end in pairwise(places)]


register(_NAME, attention)
