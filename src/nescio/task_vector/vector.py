"""Task vectors: base − c·(tuned − base), computed by rows, so that a model of any size takes a few megabytes.

Forgetting via negation (paper, section 2.1, after Ilharco et al. 2023, "Editing Models with Task Arithmetic").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from torch import Tensor

from nescio.core.adapters import is_adapter
from nescio.core.errors import NescioError
from nescio.task_vector.adapter_delta import open_adapter
from nescio.task_vector.checkpoint_delta import FLOATS, difference, refuse_quantised, tied_embedding
from nescio.task_vector.checkpoints import HEADS, Checkpoint, fetch_folder, first_three, open_checkpoint


class Delta(Protocol):
    """What a fine-tune changed: tuned − base."""

    @property
    def names(self) -> frozenset[str]:
        """Return the base's tensors that it can change."""

    def rows(self, name: str, base: Tensor, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop` of tuned − base, in fp64; `base` holds these rows of the base, in fp64."""


@dataclass(frozen=True)
class TaskVector:
    """A fine-tune's delta to its base.

    Attributes:
        base: The base model.
        delta: tuned − base.
        selected: The tensors that are changed.
        relu: Whether ReLU is applied to the delta.
    """

    base: Checkpoint
    delta: Delta
    selected: frozenset[str]
    relu: bool = False

    def rows(self, name: str, start: int, stop: int, coefficient: float) -> Tensor:
        """Return rows of base − c·delta in the base's type, computed in fp64.

        In fp32 the result would be wrong by more than a unit in the last place wherever base and c·delta cancel, which
        is common in half precision. With c = 0, and for tensors not selected, these are the base's bits.

        Raises:
            NescioError: The result is not finite.
        """
        base = self.base.entries[name].read(start, stop)
        if coefficient == 0 or name not in self.selected:
            return base
        wide = base.double()
        result = wide.sub_(self._delta(name, wide, start, stop).mul_(coefficient)).to(base.dtype)
        if not result.isfinite().all() and base.isfinite().all():
            change = f"{'-' if coefficient > 0 else '+'} {abs(coefficient):g} * delta"
            raise NescioError(f"{name}: base {change} is not finite in {base.dtype}; is the fine-tune damaged?")
        return result

    def delta_rows(self, name: str, start: int, stop: int) -> Tensor:
        """Return rows of the delta, after ReLU, in fp64."""
        return self._delta(name, self.base.entries[name].read(start, stop).double(), start, stop)

    def _delta(self, name: str, base: Tensor, start: int, stop: int) -> Tensor:
        delta = self.delta.rows(name, base, start, stop)
        return delta.relu_() if self.relu else delta


def open_vector(
    base: str, tuned: str, relu: bool = False, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> TaskVector:
    """Open a fine-tune as the delta to its base; only headers are read.

    Args:
        base: The base model: folder, hub id or `smollm2`, in safetensors.
        tuned: The fine-tune of it: likewise, or a LoRA adapter of PEFT on that base.
        relu: Keep only what the fine-tune increased.
        include: Shell patterns of tensor names to subtract from; none: all.
        exclude: Shell patterns of tensor names to leave as they are.

    Raises:
        NescioError: Either cannot be opened, they differ in more than values, or a pattern fits no tensor.
    """
    checkpoint, folder = open_checkpoint(base), fetch_folder(tuned)
    refuse_quantised(checkpoint)
    delta: Delta
    if is_adapter(folder):  # even with a config.json beside it, as some trainers write
        delta = open_adapter(tuned, folder, checkpoint)
    else:
        delta = difference(checkpoint, open_checkpoint(tuned))
    floats = [name for name, entry in checkpoint.entries.items() if entry.dtype in FLOATS]
    chosen = set(_choose([name for name in floats if name in delta.names], include, exclude))
    if embedding := tied_embedding(checkpoint):  # a stored copy of it follows it: tied stays tied
        heads = {name for name in delta.names if name.endswith(HEADS)}
        chosen = chosen | heads if embedding in chosen else chosen - heads
    return TaskVector(checkpoint, delta, frozenset(chosen), relu)


def _choose(names: list[str], include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    for pattern in (*include, *exclude):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise NescioError(
                f"pattern {pattern!r} fits none of the tensors that the fine-tune may change, such as "
                f"{first_three(names)}; patterns are the shell's: '*.mlp.*'"
            )
    chosen = [name for name in names if not include or any(fnmatchcase(name, p) for p in include)]
    chosen = [name for name in chosen if not any(fnmatchcase(name, p) for p in exclude)]
    if not chosen:
        raise NescioError("--include and --exclude leave no tensor to subtract from; loosen one of them")
    return chosen


def check_coefficient(coefficient: float) -> None:
    """Refuse a coefficient that is no number.

    Raises:
        NescioError: It is infinite or not a number.
    """
    if not math.isfinite(coefficient):
        raise NescioError(f"coefficient {coefficient}: not a number; 0.5 is the paper's")
