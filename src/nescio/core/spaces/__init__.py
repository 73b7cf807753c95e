"""Guidance spaces: how the distributions of two branches are combined, one file each."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from nescio.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

SpaceFunction: TypeAlias = "Callable[[Tensor, Tensor, Tensor], Tensor]"
"""`(positive, negative, gamma)` to the guided log-probabilities `[batch, vocab]`, normalised, in fp32.

The branches are normalised log-probabilities `[batch, vocab]`; gamma is the scale, `[batch, 1]` or `[1, 1]`.
"""

SPACES: Registry[SpaceFunction] = Registry("nescio.spaces", "guidance space", "nescio.core.spaces")
