"""The next-token logits of rows of token ids: a model of Transformers over slots of keys and values.

Knows models, adapters by number, and token ids; nothing of requests, guidance or texts.
"""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nescio.core.shared_prefix import as_read, by_kind, core_of, unpackable
from nescio.engines.decode.cpu_linear import packed_in
from nescio.engines.decode.kv_slots import Slots, most_tokens, rounded
from nescio.engines.decode.lora import Adapters

# On a CPU a row of a product is bitwise the same beside any others where its layer is packed, or the product's rows are
# a multiple of 4 (MKL). One row alone is not padded: it would take twice as long. Not packed, its logits may differ
# from those in a batch by fp32's rounding. A query of attention is the same where the queries are a multiple of 4 and
# fill a block of the fused kernel (32); a step's single queries are not, with several threads, but in plain products.
_ROWS, _QUERIES = 4, 32


@dataclass(slots=True, eq=False)  # two requests may be alike to the last token; a row is only itself
class Row:
    """All token ids of a branch, how many of them its slot holds, and the number of its adapter."""

    ids: list[int]
    held: int = 0
    adapter: int | None = None

    @property
    def missing(self) -> int:
        """How many tokens are still to be computed."""
        return len(self.ids) - self.held


class Rows:
    """Computes rows of a model.

    Args:
        model: A causal LM. One that can't be told by a mask what sees what is computed without a cache, row by row.
        cache_tokens: Most tokens held at a time, padding included.
        context: The model's own limit of a row.
    """

    def __init__(self, model: Any, cache_tokens: int, context: int) -> None:
        self.adapters = Adapters(model)
        self.slots = Slots(core_of(model).config.get_text_config().num_hidden_layers, cache_tokens)
        self._model = model
        self._core = core_of(model)
        self._context = context
        self.cached = unpackable(model) is None
        self._precision = packed_in(model)
        self._keeps = "logits_to_keep" in inspect.signature(self._core.forward).parameters

    @staticmethod
    def padded(rows: int) -> int:
        """Slots that this many rows take in a step, at most."""
        return rows if rows == 1 else rounded(rows, _ROWS)

    @classmethod
    def most_tokens(cls, rows: int, cache_tokens: int) -> int:
        """How long that many rows can be, were they alone in a cache."""
        return most_tokens(cache_tokens // cls.padded(rows))

    def extend(self, first: int, rows: Sequence[Row], most: int) -> Tensor:
        """Compute tokens that rows miss, and mark them held.

        Args:
            first: The slot of the first row; the others follow it.
            rows: The rows; each misses a token at least.
            most: Most tokens to compute of each; 1 is a step of all rows, from slot 0 on.

        Returns:
            `[rows, vocab]`: the logits after the last token computed of each.
        """
        if not self.cached:
            return torch.cat([self._whole(row) for row in rows])
        counts = [min(row.missing, most) for row in rows]
        logits = self._forward(first, [*rows], counts, stepping=most == 1)
        for row, count in zip(rows, counts, strict=True):
            row.held += count
        return logits

    def _forward(self, first: int, rows: list[Row], counts: list[int], stepping: bool) -> Tensor:
        device, wanted, longest = self._core.device, len(rows), 1
        if stepping:  # the slots behind a step's rows are free
            rows += [Row([0])] * (0 if self._precision else self.padded(wanted) - wanted)
            counts = counts + [1] * (len(rows) - wanted)
        else:
            longest = max(_QUERIES, rounded(max(counts), _ROWS))
        starts = [row.held for row in rows]
        new = [row.ids[row.held : row.held + count] for row, count in zip(rows, counts, strict=True)]
        ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in new], device=device)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(longest, device=device)
        width = self.slots.point(first, starts, counts, device)
        read = torch.arange(width, device=device)

        def seen(window: int | None) -> Tensor:
            back = positions[:, None, :, None] - read
            mask = back >= 0
            return as_read(self._core, mask if window is None else mask & (back < window))

        last = torch.tensor([count - 1 for count in counts[:wanted]], device=device)
        kept, place = torch.unique(last, return_inverse=True)
        exact = stepping and device.type == "cpu" and self._precision != "half"  # no equality is promised for half
        with (
            sdpa_kernel(SDPBackend.MATH) if exact else nullcontext(),
            self.adapters.rows([row.adapter for row in rows]),
        ):
            logits: Tensor = self._model(
                input_ids=ids, position_ids=positions.clamp_max(self._context - 1), past_key_values=self.slots,
                attention_mask=by_kind(self._core, seen), use_cache=True,
                **({"logits_to_keep": kept} if self._keeps else {}),
            ).logits  # fmt: skip
        return logits[torch.arange(wanted, device=device), place if self._keeps else last]

    def _whole(self, row: Row) -> Tensor:
        with self.adapters.rows([row.adapter]):
            logits: Tensor = self._model(input_ids=torch.tensor([row.ids], device=self._core.device)).logits[:, -1]
        row.held = len(row.ids)
        return logits
