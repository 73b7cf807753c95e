"""KV slots: the keys and values of a batch's rows, in slots `0..n-1` of one buffer per layer.

A token's column is its position, so rows of any lengths lie next to each other and do not affect each other's numbers.
Columns behind a row's end are masked. A freed slot is filled with the last row, so that the rows of a step are always
a view of the buffer, which is read without a copy.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_BLOCK = 64

KeysValues = list[tuple[Tensor, Tensor]]
"""Keys and values `[heads, n, head_dim]` of a row's first n tokens, for each layer."""


def rounded(number: int, unit: int) -> int:
    """Round a number up to a multiple of a unit."""
    return -(-number // unit) * unit


def columns(tokens: int) -> int:
    """Return how many columns to read for a number of tokens, so that attention sums in the same order for any batch.

    A CPU's attention takes 512 columns at a time. The remainder may be any multiple of 64 except 256 and 320, for
    which MKL sums in another order.
    """
    read = rounded(tokens, _BLOCK)
    return read + 384 - read % 512 if read % 512 in (256, 320) else read


def most_tokens(held: int) -> int:
    """Return the largest number of tokens that are read within that many columns."""
    read = held // _BLOCK * _BLOCK
    return read if columns(read) == read else read - read % 512 + 192


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values `[slots, heads, columns, head_dim]` of one layer; `slots.now` names the rows to read."""

    is_compileable = False
    is_sliding = False

    keys: Tensor
    values: Tensor

    def __init__(self, slots: "KVSlots") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.slots = slots

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, columns = self.slots.size
        self.keys, self.values = (
            states.new_zeros(rows, states.shape[1], columns, states.shape[-1]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        first, starts, counts, width = self.slots.now
        rows = slice(first, first + len(starts))
        given = ((self.keys, key_states), (self.values, value_states))
        for buffer, states in given:
            if states.shape[2] == 1:
                buffer[self.slots.rows, :, self.slots.columns] = states[:, :, 0].to(buffer.dtype)
                continue
            for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
                buffer[first + row, :, start : start + count] = states[row, :, :count]
        return self.keys[rows, :, :width], self.values[rows, :, :width]

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.slots.now[3], 0


class KVSlots(Cache):
    """The cache of all rows; it grows to what is reserved, never beyond `most` tokens (rows times columns).

    Args:
        layers: Number of the model's layers.
        most: Maximum size in tokens.
    """

    def __init__(self, layers: int, most: int) -> None:
        self.most = most
        self.size = (0, 0)
        self.now: tuple[int, list[int], list[int], int] = (0, [], [], 0)
        self.rows = self.columns = torch.zeros(0, dtype=torch.long)
        self._own = [_SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=[*self._own])

    def reserve(self, rows: int, columns: int) -> None:
        """Grow to that many rows and columns; contents are preserved."""
        have_rows, have_columns = self.size
        if rows <= have_rows and columns <= have_columns:
            return
        grown = max(rows, have_rows), max(columns, have_columns)
        size = grown if grown[0] * grown[1] <= self.most else (rows, columns)
        self.size = 0, 0  # if memory runs out in between, the next call resizes all layers again
        for layer in self._own:
            if layer.is_initialized:
                layer.keys, layer.values = (self._resized(old, *size) for old in (layer.keys, layer.values))
        self.size = size

    def _resized(self, old: Tensor, rows: int, columns: int) -> Tensor:
        new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
        kept_rows, kept_columns = min(rows, old.shape[0]), min(columns, old.shape[2])
        new[:kept_rows, :, :kept_columns] = old[:kept_rows, :, :kept_columns]
        return new

    def point(self, first: int, starts: list[int], counts: list[int], device: torch.device) -> int:
        """Set the rows of the next forward and where their new tokens go.

        Args:
            first: Slot of the first row; the others are in the slots behind it.
            starts: Number of tokens that each row holds.
            counts: Number of tokens added to each.
            device: Device of the buffers.

        Returns:
            Number of columns that the forward will read.
        """
        width = columns(max(start + count for start, count in zip(starts, counts, strict=True)))
        self.now = (first, starts, counts, width)
        self.rows = torch.arange(first, first + len(starts), device=device)
        self.columns = torch.tensor(starts, device=device)
        return width

    def buffers(self) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values of the rows of the next forward, `[rows, heads, columns, size]`, of each layer."""
        first, starts, _, _ = self.now
        rows = slice(first, first + len(starts))
        return [(layer.keys[rows], layer.values[rows]) for layer in self._own]

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of one slot to another."""
        for layer in self._own:
            for buffer in (layer.keys, layer.values):
                buffer[target, :, :tokens] = buffer[source, :, :tokens]

    def read(self, row: int, tokens: int) -> KeysValues:
        """Return a copy of a slot's first tokens."""
        return [(la.keys[row, :, :tokens].clone(), la.values[row, :, :tokens].clone()) for la in self._own]

    def write(self, row: int, kv: KeysValues, tokens: int) -> None:
        """Write the first tokens of keys and values into a slot."""
        for layer, (keys, values) in zip(self._own, kv, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys[None], values[None])
            layer.keys[row, :, :tokens] = keys[:, :tokens]
            layer.values[row, :, :tokens] = values[:, :tokens]
