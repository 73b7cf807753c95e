"""Linear layers in the memory layout in which a CPU multiplies a few rows fastest.

Decoding reads every weight for each token, so a product of one to sixteen rows should take as long as that reading.
MKL takes twice as long from the second row on. oneDNN over reordered weights does not, and gives a row the same bits
whatever its neighbours; where it does not to a single row, that row is doubled. FBGEMM reads weights stored in fp16:
half the bytes. Where the CPU multiplies bf16 itself, it makes more products a second, which long prompts and full
batches are bound by; what is between them stays fp32. int8 weights are a quarter of the bytes: a product of few rows,
which reading them limits, is twice as fast as in fp16.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.models import best_device, multiplies_bf16
from nescio.engines.base import Precision

_GROUP = 64  # inputs that share a scale
_MOST_HALF = torch.finfo(torch.float16).max


class _Packed(nn.Module):
    """A packed `nn.Linear`."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias


class _Full(_Packed):
    """fp32 weights, multiplied by oneDNN."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        # On some CPUs oneDNN sums a single row of many inputs in another order than two or more.
        two = torch.linspace(-1, 1, 2 * self.in_features).sin().view(2, -1)
        with torch.inference_mode():
            self._alone_differs = not torch.equal(self._multiply(two[:1])[0], self._multiply(two)[0])

    def forward(self, x: Tensor) -> Tensor:
        if self._alone_differs and x.numel() == self.in_features:
            return self._multiply(x.reshape(1, -1).expand(2, -1))[:1].view(*x.shape[:-1], self.out_features)
        return self._multiply(x)

    def _multiply(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return out

    @property
    def weight(self) -> Tensor:
        """A copy of the weight, for the few models that read it themselves."""
        weight: Tensor = self._packed.to_dense()
        return weight


class _Half(_Packed):
    """fp16 weights, multiplied by FBGEMM; activations, sums and bias stay fp32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach(), linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.reshape(-1, self.in_features), self._packed)
        return out.view(*x.shape[:-1], self.out_features)

    @property
    def weight(self) -> Tensor:
        """A copy of the weight, in fp32."""
        weight: Tensor = torch.ops.quantized.linear_unpack_fp16(self._packed)[0]
        return weight


def int8_kernels() -> Any:
    """Return the module of int8's kernels.

    Raises:
        NotInstalledError: Numba is missing.
    """
    kernels = require("nescio.engines.decode.int8_kernels", "int8", "precision int8")
    kernels.compile_all()
    return kernels


def has_threads() -> bool:
    """Return whether int8's kernels may use threads, and let them use as many as torch does."""
    threads = torch.get_num_threads()
    return threads > 1 and bool(int8_kernels().has_threads(threads))


class Int8(_Half):
    """int8 weights with a scale for each 64 inputs, multiplied in fp32; products of many rows are made in fp16.

    Attributes:
        quantised: `[out, groups, inputs of a group]`.
        scales: `[out, groups]`.
        rounding: Largest difference to a weight as it was.
    """

    is_coarse = True  # few rows and many give logits that differ by rounding to fp16
    most_rows = 6
    """Rows up to which the products of int8 weights are the faster ones."""

    def __init__(self, linear: nn.Linear) -> None:
        weight = linear.weight.detach()
        group = _GROUP if linear.in_features % _GROUP == 0 else linear.in_features
        groups = weight.view(linear.out_features, -1, group)
        scales = (groups.abs().amax(-1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        quantised = (groups / scales).round()
        # The same weights in both forms, so that it does not matter how many rows are multiplied.
        linear.weight = nn.Parameter((quantised * scales).view_as(weight), requires_grad=False)
        super().__init__(linear)
        self.quantised, self.scales = quantised.to(torch.int8).numpy(), scales[..., 0].contiguous().numpy()
        self.rounding = float(self.scales.max()) / 2
        self._kernels = int8_kernels()

    def forward(self, x: Tensor) -> Tensor:
        """Multiply `[..., in]`."""
        rows = x.numel() // self.in_features
        if rows > self.most_rows:
            return super().forward(x)
        out = torch.empty(*x.shape[:-1], self.out_features)
        _, groups, inputs = self.quantised.shape
        given = x.contiguous().view(rows, groups, inputs).numpy()
        self._kernels.multiply(self.quantised, self.scales, given, out.view(rows, -1).numpy(), has_threads())
        return out if self.bias is None else out.add_(self.bias)


class _Bf16(_Packed):
    """bf16 weights, multiplied by oneDNN; sums are made in fp32 and rounded once."""

    is_coarse = True  # the logits are those of a model in bf16

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().bfloat16())
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().bfloat16(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), self._packed, self.bias, "none", [], "")
        return out.float()

    @property
    def weight(self) -> Tensor:
        """A copy of the weight, in fp32."""
        weight: Tensor = self._packed.to_dense().float()
        return weight


_KINDS: dict[Precision, type[_Packed]] = {"full": _Full, "half": _Half, "bf16": _Bf16, "int8": Int8}


def packed_in(model: nn.Module) -> Precision | None:
    """Return the precision in which all of a model's matrices are packed, or None if some are not.

    If all are packed, a row's products do not depend on the number of its neighbours, except for the last bits in half
    precision.
    """
    modules = list(model.modules())
    left = [
        m for m in modules if any(p.dim() > 1 for p in m.parameters(recurse=False))
    ]  # packed weights are no parameters
    kinds = [precision for precision, kind in _KINDS.items() if any(type(m) is kind for m in modules)]
    return kinds[0] if kinds and all(isinstance(m, nn.Embedding) for m in left) else None


def packable(model: nn.Module) -> bool:
    """Return whether a model can be packed in full precision here: fp32 on a CPU, with oneDNN in torch."""
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return has_onednn and _on_cpu(model) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pack(model: nn.Module, precision: Precision | None) -> None:
    """Replace a model's linear layers by packed ones; if full precision can't be packed here, leave them.

    None is the fastest precision that the model can be packed in here, for answers whose last bits are of no account.
    Don't pack a model whose weights will change, by training or by a task vector.

    Raises:
        NescioError: There is no such precision, or this machine or the model's weights don't allow it.
    """
    if precision is None:
        precision = "bf16" if is_faster_in_bf16() and packable(model) else "full"
    if precision not in _KINDS:
        raise NescioError(f"precision {precision}: unknown; known here: {', '.join(_KINDS)}")
    if precision in ("half", "int8"):
        _check_half(model, precision)
    elif precision == "bf16":
        _check_bf16(model)
    elif not packable(model):
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear:
                continue
            if issubclass(_KINDS[precision], _Half) and float(child.weight.detach().abs().max()) > _MOST_HALF:
                raise NescioError(f"precision {precision}: a weight of {name} exceeds fp16; use precision full")
            setattr(parent, name, _KINDS[precision](child))


def is_faster_in_bf16() -> bool:
    """Return whether this is a CPU that multiplies bf16 itself."""
    return best_device().type == "cpu" and multiplies_bf16()


def _check_bf16(model: nn.Module) -> None:
    if not (packable(model) and is_faster_in_bf16()):
        raise NescioError("precision bf16: for fp32 weights on a CPU that multiplies bf16 itself; use precision full")


def _check_half(model: nn.Module, precision: Precision) -> None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        raise NescioError(f"precision {precision}: this machine's torch has no FBGEMM; use precision full")
    if not _on_cpu(model):
        raise NescioError(f"precision {precision}: for fp32 weights on a CPU; on a GPU the weights are bf16 already")


def _on_cpu(model: nn.Module) -> bool:
    return {(weight.device.type, weight.dtype) for weight in model.parameters()} == {("cpu", torch.float32)}
