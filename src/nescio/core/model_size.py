"""How much memory a model's weights take, computed from the shapes of its configuration: no weight is read."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from nescio.core.quantization import BYTES_EACH, Quantization


def bare_model(config: Any) -> Any:
    """Return the causal LM that Transformers makes of a configuration, without memory for its weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """The numbers that decide a model's memory.

    Attributes:
        weights: All its weights; tied ones count once.
        linear: Weights of the linear layers but the head: those that get adapters, and that are quantised.
        lora_width: Inputs plus outputs of these layers: a LoRA adapter has its rank times as many weights.
        layers: Number of layers.
        hidden: Width of a token's state.
        kv: Width of a token's keys in a layer, and of its values.
        vocab: Size of the vocabulary.
    """

    weights: int
    linear: int
    lora_width: int
    layers: int
    hidden: int
    kv: int
    vocab: int

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return the size of the causal LM that Transformers makes of a configuration."""
        from transformers.pytorch_utils import Conv1D

        bare = bare_model(config)
        head = bare.get_output_embeddings()
        matrices = [
            module.weight for module in bare.modules() if isinstance(module, nn.Linear | Conv1D) and module is not head
        ]
        own = config.get_text_config()
        heads = own.num_attention_heads
        width = getattr(own, "head_dim", None) or own.hidden_size // heads
        return cls(
            weights=sum(parameter.numel() for parameter in bare.parameters()),
            linear=sum(matrix.numel() for matrix in matrices),
            lora_width=sum(sum(matrix.shape) for matrix in matrices),
            layers=own.num_hidden_layers,
            hidden=own.hidden_size,
            kv=(getattr(own, "num_key_value_heads", None) or heads) * width,
            vocab=own.vocab_size,
        )

    def bytes_of_weights(self, dtype: torch.dtype, quantize: Quantization | None = None) -> float:
        """Return the bytes of the weights, the linear layers quantised or all of one type."""
        each = BYTES_EACH[quantize] if quantize else dtype.itemsize
        return self.linear * each + (self.weights - self.linear) * dtype.itemsize
