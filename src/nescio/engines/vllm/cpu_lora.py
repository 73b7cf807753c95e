"""The base model's rows beside an adapter's, on vLLM's CPU build.

vLLM marks a token without an adapter by the index -1. Its GPU kernels pass such tokens over; its operations in plain
PyTorch (0.32, `vllm.lora.ops.torch_ops.lora_ops`) index the adapters' weights by it, so that -1 takes the last slot's,
unless no token of the step has an adapter (`PunicaWrapperCPU`, `no_lora`). In a mixed batch the base model's rows got
the last adapter. What the first of an adapter's two products gives for these tokens is therefore put to zero, which
the second adds.

Knows vLLM's LoRA operations; nothing of requests.
"""

from collections.abc import Callable

from torch import Tensor

Shrink = Callable[..., None]


def spared(shrink: Shrink) -> Shrink:
    """The first product, `output = scaling * inputs @ A[index]` for each token, without those of a negative index."""

    def sparing(inputs: Tensor, weights: Tensor, output: Tensor, indices: Tensor, scaling: float = 1.0) -> None:
        shrink(inputs, weights, output, indices, scaling)
        output.masked_fill_((indices < 0)[:, None], 0)

    return sparing


def spare_base_rows() -> None:
    """Have vLLM leave the base model's rows alone, in this process; once."""
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    # The one is called for every step (`sgmv_shrink`), the other's own name for it by `lm_head` and whole matrices.
    lora_ops.bgmv_shrink = punica_cpu.bgmv_shrink = spared(lora_ops.bgmv_shrink)
