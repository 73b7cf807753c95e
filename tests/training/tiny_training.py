"""Examples of a few tokens, settings for them, and adapters to compare."""

from collections.abc import Callable
from typing import Any

import torch

from nescio.core.shared_prefix import Continuation, Group
from nescio.training.batch import Example, Unit
from nescio.training.settings import LoraSettings, TrainingSettings

UNITS: list[Unit] = [
    [Example(f"pair {n}", Group([1 + n, 2, 3], [Continuation([4, 5 + n]), Continuation([7, 8, 9 + n])]))]
    for n in range(6)
]
LORA = LoraSettings(r=4, alpha=8, dropout=0.1)
SETTINGS = TrainingSettings(epochs=2, batch_size=2, learning_rate=1e-2, lora=LORA)


class KilledError(Exception):
    pass


def kill_at(step: int) -> Callable[[int, int], None]:
    """Progress that ends a training after a step."""

    def progress(done: int, total: int) -> None:
        if done == step:
            raise KilledError

    return progress


def adapter_of(model: Any) -> dict[str, torch.Tensor]:
    """The tensors of a model's LoRA adapter."""
    return {name: value.detach().clone() for name, value in model.named_parameters() if "lora_" in name}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Of two sets of tensors by name, relative to the largest value of each tensor."""
    assert one.keys() == other.keys() and one
    return max(float((one[n] - other[n]).abs().max() / other[n].abs().max().clamp_min(1e-12)) for n in one)
