"""Decode steps of models of Llama's form whose linear layers hold int8 weights, layer by layer in `int8_kernels`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nescio.engines.decode.cpu_linear import Int8, has_threads
from nescio.engines.decode.int8_kernels import Linear, layer
from nescio.engines.decode.kv_slots import KVSlots
from nescio.engines.decode.lora import Adapters, LoraLayer

_LAYERS = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer"}
_ATTENTION, _MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")


class Int8Layers:
    """The decoder layers of a model.

    Args:
        core: A causal LM for which `fits` holds.
        adapters: The adapters loaded onto it.
    """

    most_rows = Int8.most_rows
    """Rows up to which a step is faster here than operator by operator."""

    def __init__(self, core: Any, adapters: Adapters) -> None:
        self._core = core
        self._adapters = adapters
        self._linears: list[tuple[list[Linear], list[Linear]]] = []
        self._version = -1  # of the adapters in `_linears`

    @staticmethod
    def fits(core: Any) -> bool:
        """Return whether a model's layers are of this form."""
        layers = getattr(getattr(core, "model", None), "layers", [])
        config = core.config.get_text_config()
        return (
            len(layers) > 0
            and all(type(each).__name__ in _LAYERS for each in layers)
            and config.hidden_act == "silu"
            and not _is_windowed(config)
            and all(isinstance(linear, Int8) for each in layers for linear in _linears_of(each))
        )

    def step(self, ids: Tensor, positions: Tensor, slots: KVSlots) -> Tensor:
        """Compute a decode step of the rows that `slots` points at.

        Args:
            ids: `[rows, 1]`.
            positions: `[rows, 1]`, below the model's context.
            slots: Their keys and values, which are extended.

        Returns:
            Logits `[rows, 1, vocab]`.
        """
        model = self._core.model
        hidden = model.embed_tokens(ids)  # [rows, 1, hidden size]
        cos, sin = (each[:, 0].contiguous().numpy() for each in model.rotary_emb(hidden, position_ids=positions))
        h, starts = hidden[:, 0].contiguous(), np.array(slots.now[1])
        threads = has_threads()
        masked = self._adapters.mask
        mask = np.zeros((len(h), 0), np.float32) if masked is None else masked[:, 0].numpy()
        for each, (attention, mlp), kept in zip(model.layers, self._every_linear(), slots.buffers(), strict=True):
            norms = each.input_layernorm, each.post_attention_layernorm
            layer(
                h.numpy(), tuple(norm.weight.detach().numpy() for norm in norms), norms[0].variance_epsilon,
                (cos, sin), tuple(buffer.numpy() for buffer in kept), starts, each.self_attn.scaling,
                tuple(attention), tuple(mlp), mask, threads,
            )  # fmt: skip
        logits: Tensor = self._core.lm_head(model.norm(h[:, None]))
        return logits

    def _every_linear(self) -> list[tuple[list[Linear], list[Linear]]]:
        if self._version != self._adapters.version:
            self._linears = [
                ([_arrays(getattr(each.self_attn, name)) for name in _ATTENTION],
                 [_arrays(getattr(each.mlp, name)) for name in _MLP])
                for each in self._core.model.layers
            ]  # fmt: skip
            self._version = self._adapters.version
        return self._linears


def _is_windowed(config: Any) -> bool:
    kinds: Sequence[str] = getattr(config, "layer_types", None) or ()
    return "sliding_attention" in kinds or (not kinds and getattr(config, "sliding_window", None) is not None)


def _linears_of(each: Any) -> list[Any]:
    """Return a layer's linear layers, without their adapters."""
    return [getattr(each.self_attn, name) for name in _ATTENTION] + [getattr(each.mlp, name) for name in _MLP]


def _arrays(linear: Any) -> Linear:
    base, a, b = linear, torch.zeros(0, 1), torch.zeros(0, 1)
    if isinstance(linear, LoraLayer):
        base, a, b = linear.base, linear.a.T.contiguous(), linear.b
    bias = torch.zeros(0) if base.bias is None else base.bias.detach()
    return base.quantised, base.scales, bias.numpy(), a.numpy(), b.numpy()
