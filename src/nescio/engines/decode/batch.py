"""The batch: next-token logits of rows of token ids, by a model of Transformers over slots of keys and values."""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nescio.core.own_attention import replaceable
from nescio.core.shared_prefix import as_read, by_kind, core_of, unpackable
from nescio.engines.decode import cpu_attention
from nescio.engines.decode.cpu_linear import packed_in
from nescio.engines.decode.kv_slots import KVSlots, most_tokens, rounded
from nescio.engines.decode.lora import Adapters

# On a CPU a row of a matrix product has the same bits whatever its neighbours, if its layer is packed or the number of
# rows is a multiple of 4 (MKL). A single row is not padded, since that would double its time; if its layers are not
# packed, its logits may differ from those in a batch by fp32 rounding. A query of attention has the same bits if the
# number of queries is a multiple of 4 and fills a block of the fused kernel. The single queries of a decode step don't
# with several threads, so they use plain products. `cpu_attention` sees to both; a model that can't take it pads whole
# prompts, and uses SDPBackend.MATH.
_ROWS = 4


@dataclass(slots=True, eq=False)  # compared by identity: two rows may hold the same tokens
class Row:
    """A branch of a request.

    Attributes:
        ids: All its token ids.
        held: Number of tokens whose keys and values its slot holds.
        adapter: Number of its adapter, or None.
    """

    ids: list[int]
    held: int = 0
    adapter: int | None = None

    @property
    def missing(self) -> int:
        """Number of tokens still to compute."""
        return len(self.ids) - self.held


class Batch:
    """Computes the rows of a model.

    Args:
        model: A causal LM. A model that heeds no 4-D mask is computed without a cache, row by row.
        cache_tokens: Size of the KV cache in tokens, with padding.
        context: The model's maximum number of tokens in a row.
    """

    def __init__(self, model: Any, cache_tokens: int, context: int) -> None:
        self.adapters = Adapters(model)
        self.slots = KVSlots(core_of(model).config.get_text_config().num_hidden_layers, cache_tokens)
        self._model = model
        self._core = core_of(model)
        self._context = context
        self.has_cache = unpackable(model) is None
        self._precision = packed_in(model)
        self._own_attention = self.has_cache and replaceable(self._core)
        self._layers: Any = self._int8_layers() if self.has_cache and self._precision == "int8" else None
        self._takes_keep = "logits_to_keep" in inspect.signature(self._core.forward).parameters

    @staticmethod
    def padded(rows: int) -> int:
        """Return the maximum number of slots that this many rows take in a step."""
        return rows if rows == 1 else rounded(rows, _ROWS)

    @classmethod
    def most_tokens(cls, rows: int, cache_tokens: int) -> int:
        """Return the maximum length of that many rows if they have the cache for themselves."""
        return most_tokens(cache_tokens // cls.padded(rows))

    def extend(self, first: int, rows: Sequence[Row], most: int) -> Tensor:
        """Compute missing tokens of rows and mark them as held.

        Args:
            first: Slot of the first row; the others are in the slots behind it.
            rows: The rows; each misses at least one token.
            most: Maximum number of tokens to compute of each; 1 is a decode step.

        Returns:
            Logits `[rows, vocab]` after the last token computed of each row.
        """
        if not self.has_cache:
            return torch.cat([self._without_cache(row) for row in rows])
        counts = [min(row.missing, most) for row in rows]
        logits = self._forward(first, [*rows], counts, stepping=most == 1)
        for row, count in zip(rows, counts, strict=True):
            row.held += count
        return logits

    def _forward(self, first: int, rows: list[Row], counts: list[int], stepping: bool) -> Tensor:
        """Compute the next `counts` tokens of each row; return the logits `[rows, vocab]` after them."""
        device, wanted = self._core.device, len(rows)
        # 1) pad: a step with further rows (the slots behind it are free), a prompt with further tokens
        if stepping:
            longest = 1
            rows += [Row([0])] * (0 if self._precision else self.padded(wanted) - wanted)
            counts = counts + [1] * (len(rows) - wanted)
        else:
            longest = max(0 if self._own_attention else cpu_attention.QUERIES, rounded(max(counts), _ROWS))
        # 2) input ids and positions, both [rows, longest]
        starts = [row.held for row in rows]
        new = [row.ids[row.held : row.held + count] for row, count in zip(rows, counts, strict=True)]
        ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in new], device=device)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(longest, device=device)
        width = self.slots.point(first, starts, counts, device)
        if self._layers and stepping and len(rows) <= self._layers.most_rows and min(starts) > 0:
            with self.adapters.rows([row.adapter for row in rows]):
                next_token: Tensor = self._layers.step(ids, positions.clamp_max(self._context - 1), self.slots)
            return next_token[:, 0]
        # 3) mask [rows, 1, longest, width]: a token sees the columns up to its position, and within its window
        read = torch.arange(width, device=device)

        def seen(window: int | None) -> Tensor:
            back = positions[:, None, :, None] - read
            mask = back >= 0
            return as_read(self._core, mask if window is None else mask & (back < window))

        # 4) forward; logits only at the last token of each row, where the model can do that
        last = torch.tensor([count - 1 for count in counts[:wanted]], device=device)
        kept, place = torch.unique(last, return_inverse=True)
        with self._attention(stepping), self.adapters.rows([row.adapter for row in rows]):
            logits: Tensor = self._model(
                input_ids=ids, position_ids=positions.clamp_max(self._context - 1), past_key_values=self.slots,
                attention_mask=by_kind(self._core, seen), use_cache=True,
                **({"logits_to_keep": kept} if self._takes_keep else {}),
            ).logits  # fmt: skip
        return logits[torch.arange(wanted, device=device), place if self._takes_keep else last]

    def _int8_layers(self) -> Any:
        from nescio.engines.decode.int8_layers import Int8Layers  # needs Numba

        return Int8Layers(self._core, self.adapters) if Int8Layers.fits(self._core) else None

    def _attention(self, stepping: bool) -> AbstractContextManager[None]:
        if self._own_attention:
            return cpu_attention.steady(self._core)
        # half precision promises no equal bits
        exact = stepping and self._core.device.type == "cpu" and self._precision not in ("half", "int8")
        return sdpa_kernel(SDPBackend.MATH) if exact else nullcontext()

    def _without_cache(self, row: Row) -> Tensor:
        with self.adapters.rows([row.adapter]):
            logits: Tensor = self._model(input_ids=torch.tensor([row.ids], device=self._core.device)).logits[:, -1]
        row.held = len(row.ids)
        return logits
