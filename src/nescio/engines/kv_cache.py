"""A key-value cache that grows in blocks and drops rows. Knows tensors only.

Transformers' own cache copies itself whole at every step, which for many rows costs as much as the step; and only the
layers of full attention are replaced here, so that sliding-window models keep their own.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

_BLOCK = 64


class _BlockLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values `[rows, heads, length, head_dim]` as views of buffers that are longer than needed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._length = 0
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < end:
            self._buffers = (self._grown(key_states, 0, end), self._grown(value_states, 1, end))
        keys, values = self._buffers
        keys[:, :, self._length : end] = key_states
        values[:, :, self._length : end] = value_states
        self._length = end
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def _grown(self, states: Tensor, which: int, end: int) -> Tensor:
        rows, heads, _, width = states.shape
        buffer = states.new_zeros(rows, heads, (end // _BLOCK + 1) * _BLOCK, width)
        if self._buffers is not None:
            buffer[:, :, : self._length] = self._buffers[which][:, :, : self._length]
        return buffer

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows."""
        if self._buffers is not None:
            self._buffers = (self._buffers[0][indices], self._buffers[1][indices])
            self.keys, self.values = (buffer[:, :, : self._length] for buffer in self._buffers)


def new_cache(config: Any) -> DynamicCache:
    """An empty cache for a model of this config, its full-attention layers growing in blocks."""
    cache = DynamicCache(config=config)
    cache.layers = [_BlockLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def keep_rows(cache: DynamicCache, rows: list[int], device: torch.device) -> None:
    """Drop all rows but these, in this order."""
    cache.batch_select_indices(torch.tensor(rows, device=device))
