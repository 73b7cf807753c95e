"""The delta of a LoRA adapter to its base, never materialised: rows of scale · B·A for each weight it adapts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from nescio.core.adapters import WEIGHTS, AdapterConfig, base_weight_of, factor_names, read_config
from nescio.core.errors import NescioError
from nescio.core.one_bit import is_one_bit
from nescio.task_vector.checkpoints import EMBEDDINGS, HEADS, Checkpoint, Entry, first_three, open_file

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
        """Return two matrices whose product is the delta, in fp64; the left one includes the scale."""
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
        """Return the base's weights that are adapted."""
        return frozenset(self.factors)

    def rows(self, name: str, base: Tensor, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop` of tuned − base, in fp64; `base` holds these rows of the base."""
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
    config = read_config(folder)
    if special := config.special():
        raise NescioError(f"{name}: more than a plain LoRA ({first_three(special)}); {_MERGE}")
    if is_one_bit(folder):
        raise NescioError(f"{name}: compressed to one bit a weight; give the adapter that it was made from")
    if not (folder / WEIGHTS).is_file():
        raise NescioError(f"{name}: holds no {WEIGHTS}; save the adapter with save_pretrained (pickles are not opened)")
    entries = open_file(folder / WEIGHTS)[1]
    modules, others = factor_names(entries)
    others = [key for key in others if not _is_copy_of_base(key, entries[key], base)]
    if others:
        raise NescioError(f"{name}: {first_three(others)}: more than a plain LoRA; {_MERGE}")
    kinds = module_kinds(base)
    strangers = [module for module in modules if module not in kinds or weight_of(module, base) is None]
    if strangers:
        raise NescioError(f"{name}: adapts {first_three(strangers)}, which the base lacks; is it one of this base?")
    factors = [
        _factors(module, (entries[names.a], entries[names.b]), config, kinds[module], base)
        for module, names in modules.items()
    ]
    _check_fit(name, factors, base)
    return LowRank({f.weight: f for f in factors})


def _factors(module: str, pair: tuple[Entry, Entry], config: AdapterConfig, kind: str, base: Checkpoint) -> Factors:
    a, b = pair
    return Factors(
        module=module,
        weight=weight_of(module, base) or "",
        a=a,
        b=b,
        scale=config.scaling(module, a.shape[0]),
        transposed=kind != "linear",
    )


def _check_fit(name: str, factors: list[Factors], base: Checkpoint) -> None:
    wrong = []
    for f in factors:
        shape = base.entries[f.weight].shape
        given = (f.a.shape[1], f.b.shape[0]) if f.transposed else (f.b.shape[0], f.a.shape[1])
        if given != shape or f.a.shape[0] != f.b.shape[1]:
            wrong.append(f"{f.weight} {given} (base {shape})")
    if wrong:
        raise NescioError(f"{name}: shapes that differ: {first_three(wrong)}; is it an adapter of this base?")
    tied = [f.weight for f in factors if f.weight.endswith(EMBEDDINGS + HEADS)] if base.is_tied else []
    if tied:
        # PEFT adds the delta on one side only; merged, it would act on both.
        raise NescioError(f"{name}: adapts {first_three(tied)}, tied in the base; untie them and {_MERGE}")


def _is_copy_of_base(key: str, entry: Entry, base: Checkpoint) -> bool:
    """Return whether a tensor is the base's own weight, which PEFT stores with adapters of an embedding or head."""
    weight = weight_of(base_weight_of(key), base)
    return weight is not None and base.entries[weight].equals(entry)


def weight_of(module: str, base: Checkpoint) -> str | None:
    """Return the base's tensor that is a module's weight; some checkpoints omit the model's own prefix."""
    names = (f"{module}.weight", f"{module.partition('.')[2]}.weight")
    return next((name for name in names if name in base.entries), None)


def module_kinds(base: Checkpoint) -> dict[str, str]:
    """Return the kind of each module that LoRA can adapt, by its path: `linear`, `conv1d` or `embedding`.

    The model is built from its configuration alone, without memory for its weights.

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
