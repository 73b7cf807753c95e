"""Linear layers whose weights are kept in fp16 on a CPU and computed in fp32: half the memory to read.

Decoding reads every weight for each token, and a product of one to sixteen rows takes as long as that reading; FBGEMM's
kernel for it is faster than MKL's fp32 even where reading is not all. Knows modules only.
"""

import torch
from torch import Tensor, nn

from nescio.errors import NescioError


class _HalfLinear(nn.Module):
    """What `nn.Linear` computes, its weight rounded to fp16; activations, sums and bias stay fp32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach(), linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.reshape(-1, self.in_features), self._packed)
        return out.view(*x.shape[:-1], self.out_features)


def halve(model: nn.Module) -> None:
    """Put fp16 layers in the place of a model's linear layers.

    Raises:
        NescioError: This machine or the model's weights don't allow it.
    """
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        raise NescioError("precision half: this machine's torch has no FBGEMM; use precision full")
    weights = {parameter.device.type for parameter in model.parameters()} | {str(p.dtype) for p in model.parameters()}
    if weights != {"cpu", "torch.float32"}:
        raise NescioError("precision half: for fp32 weights on a CPU; on a GPU the weights are bf16 already")
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear:
                continue
            if float(child.weight.detach().abs().max()) > torch.finfo(torch.float16).max:
                raise NescioError(f"precision half: a weight of {name} exceeds fp16; use precision full")
            setattr(parent, name, _HalfLinear(child))
