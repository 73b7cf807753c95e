"""LoRA on a frozen linear layer as one step of autograd: PEFT's numbers, in fewer passes over the activations.

For each layer PEFT casts the input to the adapter's type and back, multiplies the adapter's output by its scale, adds
it, and lets autograd keep what lies between. Here the products accumulate in place, and a frozen weight is cast once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn


@contextmanager
def fused(model: Any) -> Iterator[None]:
    """Let the plain LoRA layers of a PEFT model on a CPU compute in this way inside the `with` block."""
    chosen = [module for module in model.modules() if _is_plain(module)]
    for module in chosen:
        module.forward = partial(_forward, module, {})
    try:
        yield
    finally:
        for module in chosen:
            del module.forward


def _is_plain(module: Any) -> bool:
    """Return whether a module is a frozen linear layer with one vanilla adapter, without dropout or bias of its own."""
    if type(module) is not Linear or type(module.base_layer) is not nn.Linear or len(module.active_adapters) != 1:
        return False
    (name,) = module.active_adapters
    return (
        name in module.lora_A
        and name not in module.lora_variant
        and isinstance(module.lora_dropout[name], nn.Identity)
        and module.lora_B[name].bias is None
        and module.base_layer.weight.device.type == "cpu"
        and not any(parameter.requires_grad for parameter in module.base_layer.parameters())
    )


def _forward(module: Any, cast: dict[torch.dtype, Tensor], x: Tensor) -> Tensor:
    """Compute a layer; `cast` keeps its frozen weight in the type of the products."""
    base = module.base_layer
    if module.disable_adapters or module.merged:
        out: Tensor = base(x)
        return out
    (name,) = module.active_adapters
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else base.weight.dtype
    if dtype not in cast:
        cast[dtype] = base.weight.detach().to(dtype)
    factors = module.lora_A[name].weight, module.lora_B[name].weight
    done: Tensor = _LoraLinear.apply(x, cast[dtype], base.bias, *factors, module.scaling[name])  # type: ignore[no-untyped-call]
    return done


class _LoraLinear(torch.autograd.Function):
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ, with gradients for x, A and B."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """Compute the layer.

        Args:
            ctx: Of autograd.
            x: `[..., in]`.
            weight: `[out, in]`, in the type of all products.
            bias: `[out]`.
            a: `[r, in]`.
            b: `[out, r]`.
            scale: Factor of the adapter.
        """
        rows = x.reshape(-1, x.shape[-1]).to(weight.dtype)  # [n, in]
        inner = rows @ a.to(weight.dtype).T  # [n, r]
        out = rows @ weight.T if bias is None else torch.addmm(bias.to(weight.dtype), rows, weight.T)
        out.addmm_(inner, b.to(weight.dtype).T, alpha=scale)
        ctx.save_for_backward(rows, inner, weight, a, b)
        ctx.scale, ctx.shape, ctx.dtype = scale, x.shape, x.dtype
        return out.view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `forward`'s arguments."""
        rows, inner, weight, a, b = ctx.saved_tensors
        out = gradients[0].reshape(-1, len(weight)).to(weight.dtype)  # [n, out]
        through = out @ b.to(weight.dtype)  # [n, r]
        of_a = (through.T @ rows).to(a.dtype) * ctx.scale
        of_b = (out.T @ inner).to(b.dtype) * ctx.scale
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (out @ weight).addmm_(through, a.to(weight.dtype), alpha=ctx.scale).view(ctx.shape).to(ctx.dtype)
        return of_x, None, None, of_a, of_b, None
