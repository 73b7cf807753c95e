"""The delta of a LoRA adapter to its base, never materialised: rows of scale · B·A for each weight it adapts.

Knows PEFT's file names and what its configuration means for the weights; nothing of subtracting.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.task_vector.checkpoint_delta import EMBEDDINGS, HEADS, is_tied
from nescio.task_vector.checkpoints import Checkpoint, Entry, first_three, open_file, read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
LINEAR = ("lora_A.weight", "lora_B.weight")
EMBEDDING = ("lora_embedding_A", "lora_embedding_B")
_FACTOR = re.compile(rf"{re.escape(PREFIX)}(.+)\.({'|'.join(map(re.escape, LINEAR + EMBEDDING))})$")
# What makes the tuned weights something else than base + scale · B·A.
_NOT_PLAIN = (
    "use_dora", "lora_bias", "layer_replication", "trainable_token_indices", "target_parameters", "modules_to_save",
    "use_qalora", "use_bdlora", "arrow_config", "alora_invocation_tokens", "kasa_config", "monteclora_config",
)  # fmt: skip
_MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_MERGE = "merge it (PEFT's merge_and_unload, then save_pretrained) and give the merged folder as --tuned"


@dataclass(frozen=True, slots=True)
class Factors:
    """An adapted module: its path in the model, the base's weight, the entries of A and B, and the scale.

    A is (r, in) and B (out, r). The delta of a linear weight (out, in) is scale · B·A; an embedding and Transformers'
    Conv1D keep theirs as (in, out), the transpose.
    """

    module: str
    weight: str
    a: Entry
    b: Entry
    scale: float
    transposed: bool

    def read(self) -> tuple[Tensor, Tensor]:
        """Two matrices whose product is the delta, in fp64, the scale in the left one."""
        a, b = self.a.read_all().double(), self.b.read_all().double()
        left, right = (a.T, b.T) if self.transposed else (b, a)
        return (left * self.scale).contiguous(), right.contiguous()


class LowRank:
    """The delta of an adapter; a few modules' factors are in memory at a time."""

    def __init__(self, factors: Mapping[str, Factors]) -> None:
        self.factors = factors
        self._read = lru_cache(maxsize=16)(lambda name: factors[name].read())

    @property
    def names(self) -> frozenset[str]:
        """The base's weights that are adapted."""
        return frozenset(self.factors)

    def rows(self, name: str, base: Tensor, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` of tuned − base, in fp64; `base` holds these rows of the base."""
        left, right = self._read(name)
        return left[start:stop] @ right


def open_adapter(name: str, folder: Path, base: Checkpoint) -> LowRank:
    """Open a LoRA adapter as a delta to its base.

    Args:
        name: What the user calls it.
        folder: The adapter's folder.
        base: The model it was trained on.

    Raises:
        NescioError: It is not a plain LoRA, does not fit the base, or its weights are not safetensors.
    """
    config = read_json(folder / CONFIG)
    _refuse_other_kinds(name, config)
    if not (folder / WEIGHTS).is_file():
        raise NescioError(f"{name}: holds no {WEIGHTS}; save the adapter with save_pretrained (pickles are not opened)")
    entries = open_file(folder / WEIGHTS)[1]
    pairs, others = _pairs(entries)
    kinds = module_kinds(base)
    others = [key for key in others if not _is_copy_of_base(key, entries[key], base)]
    if others:
        raise NescioError(f"{name}: {first_three(others)}: more than a plain LoRA; {_MERGE}")
    strangers = [module for module in pairs if module not in kinds or weight_of(module, base) is None]
    if strangers:
        raise NescioError(f"{name}: adapts {first_three(strangers)}, which the base has not; is it one of this base?")
    factors = [_factors(module, pair, config, kinds[module], base) for module, pair in pairs.items()]
    _check_fit(name, factors, base)
    return LowRank({f.weight: f for f in factors})


def _refuse_other_kinds(name: str, config: dict[str, Any]) -> None:
    odd = [key for key in _NOT_PLAIN if config.get(key)]
    odd += [f"bias {config['bias']!r}"] if config.get("bias", "none") != "none" else []
    odd += [f"peft_type {config.get('peft_type')!r}"] if config.get("peft_type") != "LORA" else []
    start = config.get("init_lora_weights")
    odd += [f"init_lora_weights {start!r}"] if isinstance(start, str) and start.startswith(_MOVES_BASE) else []
    if odd:
        raise NescioError(f"{name}: more than a plain LoRA ({first_three(odd)}); {_MERGE}")


def _pairs(entries: Mapping[str, Entry]) -> tuple[dict[str, dict[str, Entry]], list[str]]:
    """A and B of each module, by the last part of their names; and the keys that are neither."""
    pairs: dict[str, dict[str, Entry]] = {}
    others = []
    for key, entry in entries.items():
        if match := _FACTOR.match(key):
            pairs.setdefault(match[1], {})["A" if "_A" in match[2] else "B"] = entry
        else:
            others.append(key)
    halves = [module for module, pair in pairs.items() if len(pair) != 2]
    return {m: p for m, p in pairs.items() if m not in halves}, others + halves


def _factors(module: str, pair: dict[str, Entry], config: dict[str, Any], kind: str, base: Checkpoint) -> Factors:
    rank = pair["A"].shape[0]
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):  # PEFT's own rule, the first that fits
            alpha = value
            break
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Factors(module, weight_of(module, base) or "", pair["A"], pair["B"], scale, kind != "linear")


def _check_fit(name: str, factors: list[Factors], base: Checkpoint) -> None:
    wrong = []
    for f in factors:
        shape = base.entries[f.weight].shape
        given = (f.a.shape[1], f.b.shape[0]) if f.transposed else (f.b.shape[0], f.a.shape[1])
        if given != shape or f.a.shape[0] != f.b.shape[1]:
            wrong.append(f"{f.weight} {given} (base {shape})")
    if wrong:
        raise NescioError(f"{name}: shapes that differ: {first_three(wrong)}; is it an adapter of this base?")
    tied = [f.weight for f in factors if f.weight.endswith(EMBEDDINGS + HEADS)] if is_tied(base) else []
    if tied:
        # PEFT adds the delta on one side only, merged it would act on both: they are not the same model.
        raise NescioError(f"{name}: adapts {first_three(tied)}, tied in the base; untie them and {_MERGE}")


def _is_copy_of_base(key: str, entry: Entry, base: Checkpoint) -> bool:
    """PEFT saves the embedding beside an adapter of it; unchanged, it says nothing new."""
    module = key.removeprefix(PREFIX).removesuffix(".weight").removesuffix(".base_layer")
    weight = weight_of(module, base)
    if weight is None or base.entries[weight].shape != entry.shape:
        return False
    mine = base.entries[weight]
    return all(
        torch.equal(mine.read(*piece).float(), entry.read(*piece).float()) for piece in mine.pieces(1 << 20)
    )  # fmt: skip


def weight_of(module: str, base: Checkpoint) -> str | None:
    """The base's tensor that is a module's weight; some checkpoints leave out the model's own prefix."""
    names = (f"{module}.weight", f"{module.partition('.')[2]}.weight")
    return next((name for name in names if name in base.entries), None)


def module_kinds(base: Checkpoint) -> dict[str, str]:
    """What each module that LoRA can adapt is, by its path: `linear`, `conv1d` or `embedding`.

    The model is built without memory for its weights, from its configuration alone.

    Raises:
        NescioError: Transformers does not know the architecture.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                AutoConfig.from_pretrained(base.folder)
            )
    except Exception as error:  # Transformers raises what each architecture raises
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise NescioError(f"{base.name}: Transformers cannot build it ({first}); {_MERGE}") from error
    kinds = {torch.nn.Linear: "linear", Conv1D: "conv1d", torch.nn.Embedding: "embedding"}
    return {
        path: kind for path, module in model.named_modules() for cls, kind in kinds.items() if isinstance(module, cls)
    }
