"""Linear layers in the layout in which a CPU multiplies a few rows fastest, computed in fp32. Knows modules only.

Decoding reads every weight for each token, and a product of one to sixteen rows should take as long as that reading.
MKL's takes twice as long from the second row on. oneDNN's over reordered weights does not, and gives a row the same
bits beside any others; FBGEMM's reads weights that are kept in fp16, half the bytes.
"""

import torch
from torch import Tensor, nn

from nescio.core.errors import NescioError
from nescio.engines.base import Precision


class _Packed(nn.Module):
    """What `nn.Linear` computes."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias


class _Full(_Packed):
    """In fp32, by oneDNN."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return out

    @property
    def weight(self) -> Tensor:
        """A copy, for the few models that look at a layer's weight themselves."""
        weight: Tensor = self._packed.to_dense()
        return weight


class _Half(_Packed):
    """The weight rounded to fp16; activations, sums and bias stay fp32. By FBGEMM."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach(), linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.reshape(-1, self.in_features), self._packed)
        return out.view(*x.shape[:-1], self.out_features)

    @property
    def weight(self) -> Tensor:
        """A copy in fp32 of what was kept."""
        weight: Tensor = torch.ops.quantized.linear_unpack_fp16(self._packed)[0]
        return weight


def packed_in(model: nn.Module) -> Precision | None:
    """The precision in which all matrices that a model multiplies with are packed, if they are.

    Then a row's products depend on no neighbour's number; in half precision but for the last bits.
    """
    modules = list(model.modules())
    left = [m for m in modules if any(p.dim() > 1 for p in m.parameters(recurse=False))]  # a packed weight is none
    kinds = {type(m) for m in modules} & {_Full, _Half}
    if not kinds or not all(isinstance(m, nn.Embedding) for m in left):
        return None
    return "half" if _Half in kinds else "full"


def packable(model: nn.Module) -> bool:
    """Whether full precision has a packed form for a model here: fp32 on a CPU for which torch has oneDNN."""
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return has_onednn and _on_cpu(model) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pack(model: nn.Module, precision: Precision) -> None:
    """Put packed layers in the place of a model's linear layers; where full precision has none, leave it as it is.

    A model whose weights are to change, by training or by a task vector, is not to be packed.

    Raises:
        NescioError: This machine or the model's weights don't allow half precision.
    """
    if precision == "half":
        _check_half(model)
    elif not packable(model):
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear:
                continue
            if precision == "half" and float(child.weight.detach().abs().max()) > torch.finfo(torch.float16).max:
                raise NescioError(f"precision half: a weight of {name} exceeds fp16; use precision full")
            setattr(parent, name, _Half(child) if precision == "half" else _Full(child))


def _check_half(model: nn.Module) -> None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        raise NescioError("precision half: this machine's torch has no FBGEMM; use precision full")
    if not _on_cpu(model):
        raise NescioError("precision half: for fp32 weights on a CPU; on a GPU the weights are bf16 already")


def _on_cpu(model: nn.Module) -> bool:
    return {(weight.device.type, weight.dtype) for weight in model.parameters()} == {("cpu", torch.float32)}
