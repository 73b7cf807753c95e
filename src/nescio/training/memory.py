"""How much memory a training takes, computed from the model's shape: no model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nescio.core.model_size import ModelSize
from nescio.core.quantization import Quantization
from nescio.training.batch import Unit
from nescio.training.settings import TrainingSettings

# An adapter's weight in fp32, its gradient, and the two moments of AdamW.
_BYTES_OF_ADAPTER = 16
# Numbers kept for the backward pass, for each token, layer and hidden unit: attention and MLP, with their adapters.
_ACTIVATIONS = 40
# fp32 numbers for each vocabulary entry of a scored token: logits, their log-softmax, and the gradient.
_LOGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one step computes.

    Attributes:
        tokens: Number of tokens.
        scored: How many of them have logits.
        rank: Rank of the adapter.
        checkpointing: Whether activations are computed again in the backward pass.
    """

    tokens: float
    scored: float
    rank: int
    checkpointing: bool


def training_bytes(size: ModelSize, load: Load, dtype: torch.dtype, quantize: Quantization | None) -> float:
    """Return the most memory of a training step, within a factor of two.

    Args:
        size: Size of the model.
        load: What a step computes.
        dtype: Type of the weights that are not quantised, and of the activations.
        quantize: Form of the linear layers' weights.
    """
    weights = size.bytes_of_weights(dtype, quantize)
    adapter = load.rank * size.lora_width * _BYTES_OF_ADAPTER
    # With checkpointing the input of each layer is kept, and all activations of the one that is computed again.
    kept = size.layers + _ACTIVATIONS if load.checkpointing else size.layers * _ACTIVATIONS
    activations = load.tokens * kept * size.hidden * dtype.itemsize
    return weights + adapter + activations + load.scored * size.vocab * 4 * _LOGITS


def largest_step(units: Sequence[Unit], settings: TrainingSettings) -> Load:
    """Return the load of a step on the longest examples, without what stands beside it."""

    def length(unit: Unit) -> int:
        return sum(example.group.tokens for example in unit)

    whole = max(1, settings.batch_size // max(map(len, units)))
    longest = sorted(units, key=length)[-whole:]
    tokens = sum(map(length, longest))
    prompts = 0 if settings.prompt_wanted else sum(len(example.group.prompt) for unit in longest for example in unit)
    return Load(
        tokens=tokens, scored=tokens - prompts, rank=settings.lora.r, checkpointing=settings.gradient_checkpointing
    )
