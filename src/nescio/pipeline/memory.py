"""Whether a training fits the GPU's memory: said before the model is loaded, with what would fit."""

from collections.abc import Callable
from dataclasses import replace

import torch

from nescio.core.errors import NescioError
from nescio.core.model_size import ModelSize
from nescio.core.models import best_dtype, free_memory, gib, size_of
from nescio.core.quantization import QUANTIZATIONS, Quantization
from nescio.training.memory import Load, training_bytes


def check_memory(
    model: str, load: Load, quantize: Quantization | None, place: str, note: Callable[[str], None]
) -> None:
    """Refuse a training whose weights exceed the GPU's free memory; note one that may run out of it.

    Args:
        model: What is trained, as for `resolve`.
        load: The largest step.
        quantize: Form of its weights.
        place: Section of the recipe, for the message.
        note: Shows a line to the user.

    Raises:
        NescioError: The weights and the adapter do not fit.
    """
    free = free_memory()
    if free is None:
        return
    size, dtype = size_of(model), best_dtype()
    weights = training_bytes(size, replace(load, tokens=0, scored=0), dtype, quantize)  # exact; the rest is an estimate
    most = training_bytes(size, load, dtype, quantize)
    if weights > free:
        raise NescioError(
            f"{place}: weights and adapter of {model} take {gib(weights)}, and {gib(free)} of the GPU's memory are "
            f"free; {_what_fits(size, load, dtype, quantize, place, free)}"
        )
    if most > free:
        note(
            f"{place}: the longest step takes about {gib(most)} (computed), and {gib(free)} of the GPU's memory are "
            f"free; if it runs out, {_what_fits(size, load, dtype, quantize, place, free)}"
        )


def _what_fits(
    size: ModelSize, load: Load, dtype: torch.dtype, quantize: Quantization | None, place: str, free: float
) -> str:
    """Return the smallest change of the recipe with which the step fits, in words."""
    section = "train" if place == "bake" else place  # baking takes the base as it was trained on
    for form in dict.fromkeys((quantize, *reversed(QUANTIZATIONS))):
        for checkpointing in dict.fromkeys((load.checkpointing, True)):
            need = training_bytes(size, replace(load, checkpointing=checkpointing), dtype, form)
            if need <= free:
                changes = [] if form == quantize else [f"{section}.quantize: {form}"]
                changes += [] if checkpointing == load.checkpointing else [f"{place}.gradient_checkpointing: true"]
                return f"{' and '.join(changes)} would take {gib(need)}"
    return f"lower {place}.batch_size, or take a smaller model"
