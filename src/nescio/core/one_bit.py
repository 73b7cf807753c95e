"""Adapters of one bit a weight: signs and a scale for each rank, small enough to send along with a request.

The paper's section 6 speaks of "tiny LoRA adapters built based on Bit-LoRA". Here a trained adapter is compressed after
training: each module's delta s·B·A becomes a sum of K terms c·u·v^T whose u and v hold +1 and -1 only, found one after
another on what is left (the sign form of the semidiscrete decomposition, Kolda and O'Leary 1998), their scales c then
solved for together. That is again a LoRA of rank K, and is expanded to one when it is attached. Knows PEFT's files.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.files import atomic_write, write_json
from nescio.core.models import base_from, base_seen_from

CONFIG, FULL, BITS = "adapter_config.json", "adapter_model.safetensors", "adapter_bits.safetensors"
_A, _B, _SCALE = ".lora_A.weight", ".lora_B.weight", ".scale"
_ROUNDS = 12  # of taking turns between u and v; the term stops changing long before
_NOT_PLAIN = ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "layer_replication")


@dataclass(frozen=True, slots=True)
class Compressed:
    """What compressing came to.

    Attributes:
        before: Bytes of the adapter's weights.
        after: Bytes of the signs and scales.
        kept: Share of the delta's energy, its squared Frobenius norm, over all modules.
    """

    before: int
    after: int
    kept: float


def is_one_bit(folder: Path) -> bool:
    """Whether a folder holds an adapter in this form."""
    return (folder / BITS).is_file() and not (folder / FULL).is_file()


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
    config = _config(adapter)
    tensors: dict[str, Tensor] = {}
    lost = energy = 0.0
    for module, a, b in _modules(adapter):
        scaling = _scaling(config, module, a.shape[0])
        delta = scaling * (b.double() @ a.double()).float()
        u, v, scale = sign_terms(delta, rank or a.shape[0])
        lost += float((delta - (u * scale) @ v).square().sum())
        energy += float(delta.square().sum())
        tensors |= {module + _A: _to_bits(v), module + _B: _to_bits(u), module + _SCALE: scale}
    ranks = {_module_path(name): len(t) for name, t in tensors.items() if name.endswith(_SCALE)}
    most = max(set(ranks.values()), key=list(ranks.values()).count)
    other = {module: k for module, k in ranks.items() if k != most}
    changes = {"r": most, "lora_alpha": most, "rank_pattern": other, "alpha_pattern": other, "use_rslora": False}
    if base := config.get("base_model_name_or_path"):  # a path in it counts from the adapter's folder
        config["base_model_name_or_path"] = base_from(out, base_seen_from(adapter, base))
    with atomic_write(out) as folder:
        folder.mkdir()
        save_file(tensors, folder / BITS, _shapes(adapter))
        write_json(folder / CONFIG, config | changes)
        for note in adapter.glob("nescio.json"):
            (folder / note.name).write_bytes(note.read_bytes())
    before, after = (adapter / FULL).stat().st_size, (out / BITS).stat().st_size
    return Compressed(before, after, 1 - lost / energy if energy else 1.0)


def expand(folder: Path) -> dict[str, Tensor]:
    """The tensors of a compressed adapter as PEFT's file would hold them, fp32.

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
    """Signs and scales whose sum of products comes near to a matrix.

    Args:
        delta: `[outputs, inputs]`.
        terms: How many.

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
    """Signs u and v with a large u·left·v: each is the best for the other, taken in turns from the largest column."""
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


def _config(adapter: Path) -> dict[str, Any]:
    if not (adapter / CONFIG).is_file() or not (adapter / FULL).is_file():
        raise NescioError(f"{adapter}: not a PEFT adapter ({CONFIG} and {FULL} make one); name an adapter folder")
    try:
        config: dict[str, Any] = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
        special = [name for name in _NOT_PLAIN if config.get(name)]
        plain = config["peft_type"] == "LORA" and config.get("bias", "none") == "none" and not special
    except (ValueError, KeyError, AttributeError) as error:
        raise NescioError(f"{adapter / CONFIG}: not a PEFT configuration; write the adapter again") from error
    if not plain:
        raise NescioError(f"{adapter}: only plain LoRA can be compressed, not {', '.join(special) or 'this kind'}")
    return config


def _modules(adapter: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Each adapted module's name with its A and B."""
    try:
        tensors = load_file(adapter / FULL)
    except (SafetensorError, OSError) as error:
        raise NescioError(f"{adapter / FULL}: damaged; write the adapter again") from error
    strange = [name for name in tensors if not name.endswith((_A, _B))]
    modules = [name.removesuffix(_A) for name in tensors if name.endswith(_A)]
    if strange or not modules or any(module + _B not in tensors for module in modules):
        raise NescioError(f"{adapter}: only LoRA on linear layers can be compressed; {(strange or ['B'])[0]} is not")
    for module in modules:
        yield module, tensors[module + _A], tensors[module + _B]


def _shapes(adapter: Path) -> dict[str, str]:
    return {module: json.dumps([b.shape[0], a.shape[1]]) for module, a, b in _modules(adapter)}


def _module_path(name: str) -> str:
    return name.removeprefix("base_model.model.").removesuffix(_SCALE)


def _scaling(config: dict[str, Any], module: str, rank: int) -> float:
    path = _module_path(module)
    alpha = next((v for key, v in (config.get("alpha_pattern") or {}).items() if path.endswith(key)), None)
    alpha = config["lora_alpha"] if alpha is None else alpha
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)
