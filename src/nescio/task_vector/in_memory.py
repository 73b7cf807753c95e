"""Sweep of coefficients in a loaded base model, without a second model."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.task_vector.checkpoints import PIECE, first_three
from nescio.task_vector.vector import TaskVector, check_coefficient


def sweep(model: torch.nn.Module, vector: TaskVector, coefficients: Sequence[float]) -> Iterator[float]:
    """Give a loaded base model the weights base − c·delta for each c, and its own again, bit for bit, at the end.

    The weights are those that `subtract` would write. No model is written, and there is no second one in memory. The
    caller evaluates the model between the steps.

    Args:
        model: The base model, loaded by Transformers.
        vector: The delta to this base.
        coefficients: Coefficients to try, in this order.

    Yields:
        The coefficient that the model has now.

    Raises:
        NescioError: A coefficient is not finite, or the model is not this base (three tensors are named).
    """
    for coefficient in coefficients:
        check_coefficient(coefficient)
    weights = _weights(model, vector)

    def apply(coefficient: float) -> None:  # read from the disk: earlier coefficients leave no trace
        with torch.no_grad():
            for name, weight in weights.items():
                for start, stop in vector.base.entries[name].pieces(PIECE):
                    weight.view(-1, *weight.shape[1:])[start:stop].copy_(vector.rows(name, start, stop, coefficient))

    try:
        for coefficient in coefficients:
            apply(coefficient)
            yield coefficient
    finally:
        apply(0.0)


def _weights(model: torch.nn.Module, vector: TaskVector) -> dict[str, Tensor]:
    state = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    found = {}
    for name in vector.selected:
        weight = state.get(name, state.get(prefix + name))
        if weight is not None and weight.shape == vector.base.entries[name].shape:
            found[name] = weight
    lost = sorted(vector.selected - found.keys())
    if lost:
        raise NescioError(f"{vector.base.name}: the loaded model has no {first_three(lost)}; load this base")
    return found
