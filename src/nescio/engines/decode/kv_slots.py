"""Keys and values of the rows of a batch, in slots `0..n-1` of one buffer a layer. Knows tensors only.

A row's tokens stand at the columns of their positions, so rows of any lengths lie side by side and a row's numbers
depend on no neighbour; what stands behind a row's end is masked, never read. Freed slots are filled with the last
row, so that the rows of a step are always one view of the buffer and nothing is copied to be read.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_BLOCK = 64

Kept = list[tuple[Tensor, Tensor]]
"""The keys and values `[heads, n, head_dim]` of a row's first n tokens, layer by layer."""


def rounded(number: int, unit: int) -> int:
    """The next multiple of a unit."""
    return -(-number // unit) * unit


def columns(tokens: int) -> int:
    """Columns that so many tokens are read at: attention then sums alike whatever the longest row beside them.

    A CPU's attention takes 512 columns at a time. What is left over may be any multiple of 64 but 256 and 320, for
    which MKL sums in another order.
    """
    read = rounded(tokens, _BLOCK)
    return read + 384 - read % 512 if read % 512 in (256, 320) else read


def most_tokens(held: int) -> int:
    """How many tokens can be read at no more than that many columns."""
    read = held // _BLOCK * _BLOCK
    return read if columns(read) == read else read - read % 512 + 192


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values `[slots, heads, columns, head_dim]` of one layer, for the rows that `slots` names now."""

    is_compileable = False
    is_sliding = False

    keys: Tensor
    values: Tensor

    def __init__(self, slots: "Slots") -> None:
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


class Slots(Cache):
    """The cache of all rows; grows to what is reserved, never beyond `most` tokens (rows times columns).

    Args:
        layers: How many layers the model has.
        most: Most tokens held.
    """

    def __init__(self, layers: int, most: int) -> None:
        self.most = most
        self.size = (0, 0)
        self.now: tuple[int, list[int], list[int], int] = (0, [], [], 0)
        self.rows = self.columns = torch.zeros(0, dtype=torch.long)
        self._own = [_SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=[*self._own])

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for that many rows of that many columns; what the rows hold is kept."""
        have_rows, have_columns = self.size
        if rows <= have_rows and columns <= have_columns:
            return
        grown = max(rows, have_rows), max(columns, have_columns)
        self.size = grown if grown[0] * grown[1] <= self.most else (rows, columns)
        for layer in self._own:
            if layer.is_initialized:
                layer.keys, layer.values = (self._resized(old) for old in (layer.keys, layer.values))

    def _resized(self, old: Tensor) -> Tensor:
        rows, columns = self.size
        new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
        kept_rows, kept_columns = min(rows, old.shape[0]), min(columns, old.shape[2])
        new[:kept_rows, :, :kept_columns] = old[:kept_rows, :, :kept_columns]
        return new

    def point(self, first: int, starts: list[int], counts: list[int], device: torch.device) -> int:
        """Say which rows come next and where their new tokens go.

        Args:
            first: The first row's slot; the others follow it.
            starts: How many tokens each row holds.
            counts: How many are added to each.
            device: Of the buffers.

        Returns:
            How many columns the rows will be read at.
        """
        width = columns(max(start + count for start, count in zip(starts, counts, strict=True)))
        self.now = (first, starts, counts, width)
        self.rows = torch.arange(first, first + len(starts), device=device)
        self.columns = torch.tensor(starts, device=device)
        return width

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of one row to another."""
        for layer in self._own:
            for buffer in (layer.keys, layer.values):
                buffer[target, :, :tokens] = buffer[source, :, :tokens]

    def read(self, row: int, tokens: int) -> Kept:
        """A copy of a row's first tokens."""
        return [(la.keys[row, :, :tokens].clone(), la.values[row, :, :tokens].clone()) for la in self._own]

    def write(self, row: int, kept: Kept, tokens: int) -> None:
        """Put the first tokens of what was read into a row."""
        for layer, (keys, values) in zip(self._own, kept, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys[None], values[None])
            layer.keys[row, :, :tokens] = keys[:, :tokens]
            layer.values[row, :, :tokens] = values[:, :tokens]
