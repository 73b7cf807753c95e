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

from nescio.training.processes import sharded


@contextmanager
def fused(model: Any) -> Iterator[None]:
    """Let the plain LoRA layers of a PEFT model on a CPU compute in this way inside the `with` block."""
    # Where processes share the weights, what is cast here would outlive a layer's turn.
    chosen = [] if sharded() else [module for module in model.modules() if _is_plain(module)]
    for module in chosen:
        module.forward = partial(_forward, module, {})
    try:
        yield
    finally:
        for module in chosen:
            del module.forward


def _is_plain(module: Any) -> bool:
    """Return whether a module is a frozen linear layer with one vanilla adapter."""
    if type(module) is not Linear or type(module.base_layer) is not nn.Linear or len(module.active_adapters) != 1:
        return False
    (name,) = module.active_adapters
    return (
        name in module.lora_A
        and name not in module.lora_variant
        and module.lora_B[name].bias is None
        and module.base_layer.weight.device.type == "cpu"
        and not any(parameter.requires_grad for parameter in module.base_layer.parameters())
    )


def _forward(module: Any, cast: dict[torch.dtype, Tensor], x: Tensor, **how: Any) -> Tensor:
    """Compute a layer; `cast` keeps its frozen weight in the type of the products."""
    if module.disable_adapters or module.merged or how:
        out: Tensor = type(module).forward(module, x, **how)
        return out
    (name,), base, kind = module.active_adapters, module.base_layer, x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else base.weight.dtype
    if dtype not in cast:
        with torch.inference_mode(False):  # a later backward pass reads it, whoever asks first
            cast[dtype] = base.weight.detach().to(dtype)
    rows = x.reshape(-1, x.shape[-1])  # [n, in]
    dropout = module.lora_dropout[name]
    dropped = None if isinstance(dropout, nn.Identity) or not dropout.training else dropout(rows)
    factors = module.lora_A[name].weight, module.lora_B[name].weight
    done: Tensor = _LoraLinear.apply(rows, dropped, cast[dtype], base.bias, *factors, module.scaling[name])  # type: ignore[no-untyped-call]
    return done.view(*x.shape[:-1], -1)


class _LoraLinear(torch.autograd.Function):
    """y = x Wᵀ + b + s (x' Aᵀ) Bᵀ, with gradients for x, x', A and B; x' is x, or what dropout leaves of it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dropped: Tensor | None, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor,
        scale: float,
    ) -> Tensor:  # fmt: skip
        """Compute the layer.

        Args:
            ctx: Context of autograd.
            x: `[n, in]`.
            dropped: `[n, in]`: what the adapter reads in the place of x; None: x.
            weight: `[out, in]`, in the type of all products.
            bias: `[out]`.
            a: `[r, in]`.
            b: `[out, r]`.
            scale: Factor of the adapter.
        """
        dtype = weight.dtype
        rows = x.to(dtype)
        read = rows if dropped is None else dropped.to(dtype)
        inner = read @ a.to(dtype).T  # [n, r]
        out = rows @ weight.T if bias is None else torch.addmm(bias.to(dtype), rows, weight.T)
        out.addmm_(inner, b.to(dtype).T, alpha=scale)
        ctx.save_for_backward(read, inner, weight, a, b)
        ctx.scale, ctx.dtype, ctx.is_apart = scale, x.dtype, dropped is not None
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `forward`'s arguments."""
        read, inner, weight, a, b = ctx.saved_tensors
        dtype, out = weight.dtype, gradients[0].to(weight.dtype)  # [n, out]
        through = out @ b.to(dtype)  # [n, r]
        of_a = (through.T @ read).to(a.dtype) * ctx.scale
        of_b = (out.T @ inner).to(b.dtype) * ctx.scale
        of_x = of_dropped = None
        if ctx.needs_input_grad[1]:
            of_dropped = (through @ a.to(dtype)).to(ctx.dtype) * ctx.scale
        if ctx.needs_input_grad[0]:
            of_x = out @ weight
            if not ctx.is_apart:
                of_x.addmm_(through, a.to(dtype), alpha=ctx.scale)
            of_x = of_x.to(ctx.dtype)
        return of_x, of_dropped, None, None, of_a, of_b, None
