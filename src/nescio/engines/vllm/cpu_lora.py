"""A fix for vLLM's CPU build: rows without an adapter, in a batch where other rows have one.

vLLM marks a token without an adapter by the index -1. Its GPU kernels skip such tokens. Its operations in plain PyTorch
(0.32, `vllm.lora.ops.torch_ops.lora_ops`) use -1 as an index into the adapters' weights, which is the last slot, unless
no token of the step has an adapter (`PunicaWrapperCPU`, `no_lora`). So in a mixed batch the base model's rows got the
last adapter. LoRA adds the second of two products; zeroing the first for these tokens makes the second zero.
"""

from collections.abc import Callable

from torch import Tensor

Shrink = Callable[..., None]


def without_negative_indices(shrink: Shrink) -> Shrink:
    """Wrap the first product, `output = scaling * inputs @ A[index]` per token, to give 0 for a negative index."""

    def masked_shrink(inputs: Tensor, weights: Tensor, output: Tensor, indices: Tensor, scaling: float = 1.0) -> None:
        shrink(inputs, weights, output, indices, scaling)
        output.masked_fill_((indices < 0)[:, None], 0)

    return masked_shrink


def fix_base_rows() -> None:
    """Apply the fix in this process; call it once."""
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    # `sgmv_shrink` calls the first name in every step; `lm_head` and whole matrices use `punica_cpu`'s own import.
    lora_ops.bgmv_shrink = punica_cpu.bgmv_shrink = without_negative_indices(lora_ops.bgmv_shrink)
