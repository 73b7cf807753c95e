"""Adapters of one bit a weight: signs and one scale for each rank, small enough to travel with a request.

The paper's section 6 proposes "tiny LoRA adapters built based on Bit-LoRA". A trained adapter is compressed here: each
module's delta s·B·A becomes a sum of K terms c·u·v^T, where u and v hold only +1 and -1. The terms are found one after
another on the residual (sign form of the semidiscrete decomposition, Kolda and O'Leary 1998); then all scales c are
solved for together. The result is a LoRA of rank K and is expanded to one when it is attached.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nescio.core.adapters import (
    LINEAR,
    PREFIX,
    WEIGHTS,
    AdapterConfig,
    base_name,
    factor_names,
    lora_config,
    read_config,
    read_notes,
    read_weights,
    write_config,
)
from nescio.core.errors import NescioError
from nescio.core.files import atomic_write

BITS = "adapter_bits.safetensors"
_A, _B, _SCALE = *(f".{side}" for side in LINEAR), ".scale"
_ROUNDS = 12  # alternations between u and v; the term stops changing long before


@dataclass(frozen=True, slots=True)
class Compressed:
    """Result of a compression.

    Attributes:
        before: Bytes of the adapter's weights.
        after: Bytes of the signs and scales.
        kept: Share of the delta's energy (squared Frobenius norm) that is kept, over all modules.
    """

    before: int
    after: int
    kept: float


def is_one_bit(folder: Path) -> bool:
    """Return whether a folder holds an adapter in this form."""
    return (folder / BITS).is_file() and not (folder / WEIGHTS).is_file()


def compress(adapter: Path, out: Path, rank: int | None = None) -> Compressed:
    """Write an adapter in one bit a weight.

    Args:
        adapter: A PEFT folder of plain LoRA on linear layers.
        out: The folder to write; must not exist.
        rank: How many terms a module gets; None: as many as its rank.

    Raises:
        NescioError: It is no such adapter, or something is at `out`.
    """
    if out.exists():
        raise NescioError(f"{out}: exists already; name another folder")
    config = read_config(adapter)
    if special := config.special():
        raise NescioError(f"{adapter}: only plain LoRA can be compressed, not {', '.join(special)}")
    tensors: dict[str, Tensor] = {}
    shapes, ranks = dict[str, str](), dict[str, int]()
    lost = energy = 0.0
    for module, a, b in _linear_modules(adapter):  # A [r, in], B [out, r]
        delta = config.scaling(module, len(a)) * (b.double() @ a.double())  # [out, in]
        delta = delta.float()
        u, v, scale = sign_terms(delta, rank or len(a))
        lost += float((delta - (u * scale) @ v).square().sum())
        energy += float(delta.square().sum())
        name, ranks[module] = PREFIX + module, len(scale)
        tensors |= {name + _A: _to_bits(v), name + _B: _to_bits(u), name + _SCALE: scale}
        shapes[name] = json.dumps(list(delta.shape))
    with atomic_write(out) as folder:
        folder.mkdir()
        save_file(tensors, folder / BITS, shapes)
        _write_config(config, ranks, folder, out)
    before, after = (adapter / WEIGHTS).stat().st_size, (out / BITS).stat().st_size
    return Compressed(before, after, 1 - lost / energy if energy else 1.0)


def expand(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a compressed adapter as PEFT's file would hold them, fp32.

    Raises:
        NescioError: The file is damaged.
    """
    path = folder / BITS
    try:
        bits = load_file(path)
        with safe_open(path, "pt") as file:
            shapes = {name: json.loads(shape) for name, shape in (file.metadata() or {}).items() if name != "format"}
        expanded = {}
        for module, (outputs, inputs) in shapes.items():
            scale = bits[module + _SCALE]
            expanded[module + _A] = _from_bits(bits[module + _A], (len(scale), inputs))
            expanded[module + _B] = _from_bits(bits[module + _B], (outputs, len(scale))) * scale
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise NescioError(f"{path}: damaged ({type(error).__name__}); compress the adapter again") from error
    return expanded


def sign_terms(delta: Tensor, terms: int) -> tuple[Tensor, Tensor, Tensor]:
    """Approximate a matrix by a sum of scaled products of sign vectors.

    Args:
        delta: `[outputs, inputs]`.
        terms: Number of products.

    Returns:
        u `[outputs, terms]` and v `[terms, inputs]` of +1 and -1, and the scales `[terms]`.
    """
    left, us, vs = delta.clone(), [], []
    for _ in range(terms):
        u, v = _sign_term(left)
        us.append(u)
        vs.append(v)
        left -= torch.outer(u, v) * (u @ left @ v / left.numel())
    u, v = torch.stack(us, 1), torch.stack(vs)
    gram = (u.double().T @ u.double()) * (v.double() @ v.double().T)
    target = ((u.double().T @ delta.double()) * v.double()).sum(1)
    scale = torch.linalg.lstsq(gram, target[:, None], driver="gelsd").solution[:, 0]
    return u, v, scale.float()


def _sign_term(left: Tensor) -> tuple[Tensor, Tensor]:
    """Find signs u and v with a large u·left·v: optimise each for the other in turn, from the largest column."""
    u = _signs(left[:, left.square().sum(0).argmax()])
    v = _signs(u @ left)
    for _ in range(_ROUNDS):
        u = _signs(left @ v)
        v = _signs(u @ left)
    return u, v


def _signs(values: Tensor) -> Tensor:
    return torch.where(values < 0, -1.0, 1.0)


def _to_bits(signs: Tensor) -> Tensor:
    flat = (signs.flatten() > 0).to(torch.uint8)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).reshape(-1, 8)
    return (padded << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def _from_bits(packed: Tensor, shape: tuple[int, int]) -> Tensor:
    bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.flatten()[: shape[0] * shape[1]].reshape(shape).float() * 2 - 1


def _linear_modules(adapter: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield each adapted module's path with its A and B."""
    tensors = read_weights(adapter)
    modules, others = factor_names(tensors)
    others += [names.a for names in modules.values() if not names.a.endswith(_A)]
    if others or not modules:
        raise NescioError(f"{adapter}: only LoRA on linear layers can be compressed; {(others or ['it'])[0]} is not")
    for module, names in modules.items():
        yield module, tensors[names.a], tensors[names.b]


def _write_config(config: AdapterConfig, ranks: dict[str, int], folder: Path, out: Path) -> None:
    """Write PEFT's configuration with the new ranks and a scaling of 1: the scales are in the tensors."""
    changed = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")
    values = {**config.values, **{name: value for name, value in lora_config(ranks).items() if name in changed}}
    notes = {name: value for name, value in read_notes(config.folder).items() if name != "base"}
    write_config(folder, values, base_name(config.folder), out, **notes)
