"""The delta of a LoRA adapter to its base: rows of scale · B·A for each weight that it adapts, computed when asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from nescio.core.adapters import base_weight_of, factor_names, read_config, read_weights
from nescio.core.errors import NescioError, first_line
from nescio.core.model_size import bare_model
from nescio.core.one_bit import is_one_bit
from nescio.task_vector.checkpoint_delta import tied_embedding
from nescio.task_vector.checkpoints import EMBEDDINGS, HEADS, Checkpoint, first_three

_MERGE = "merge it (PEFT's merge_and_unload, then save_pretrained) and use the merged model"


@dataclass(frozen=True, slots=True)
class Factors:
    """An adapted module.

    Attributes:
        module: Path in the model.
        kind: `linear`, `conv1d` or `embedding`.
        a: A `[r, in]`.
        b: B `[out, r]`.
        scale: Factor of B·A. A linear weight is (out, in); an embedding and Transformers' Conv1D store the transpose.
    """

    module: str
    kind: str
    a: Tensor
    b: Tensor
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the weight."""
        sizes = self.b.shape[0], self.a.shape[1]
        return sizes if self.kind == "linear" else sizes[::-1]

    def wide(self) -> tuple[Tensor, Tensor]:
        """Return two matrices in fp64 whose product is the delta."""
        a, b = self.a.double(), self.b.double() * self.scale
        return (b, a) if self.kind == "linear" else (a.T.contiguous(), b.T.contiguous())


class LowRank:
    """The delta of an adapter; the fp64 factors of a few modules are kept at a time.

    Args:
        factors: By the name of the base's weight.
    """

    def __init__(self, factors: Mapping[str, Factors]) -> None:
        self.factors = factors
        self._wide = lru_cache(maxsize=16)(lambda name: factors[name].wide())

    @property
    def names(self) -> frozenset[str]:
        """Return the base's weights that are adapted."""
        return frozenset(self.factors)

    def rows(self, name: str, base: Tensor, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop` of tuned − base, in fp64; `base` holds these rows of the base."""
        left, right = self._wide(name)
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
    tensors = read_weights(folder)
    modules, others = factor_names(tensors)
    others = [key for key in others if not _is_copy_of_base(key, tensors[key], base)]
    if others:
        raise NescioError(f"{name}: {first_three(others)}: more than a plain LoRA; {_MERGE}")
    tied = [module for module in modules if base.is_tied and f"{module}.weight".endswith(EMBEDDINGS + HEADS)]
    if tied:
        # PEFT adds the delta to one of the two; merged, it would act on both.
        raise NescioError(f"{name}: adapts {first_three(tied)}, tied in the base; untie them and {_MERGE}")
    kinds, factors = module_kinds(base), {}
    strangers = [module for module in modules if module not in kinds or weight_of(module, base) is None]
    if strangers:
        raise NescioError(f"{name}: adapts {first_three(strangers)}, which the base lacks; is it one of this base?")
    for module, pair in modules.items():
        a, b = tensors[pair.a], tensors[pair.b]
        found = Factors(module, kinds[module], a, b, config.scaling(module, a.shape[0]))
        factors[weight_of(module, base) or ""] = found
    wrong = [
        f"{weight} {found.shape} (base {base.entries[weight].shape})"
        for weight, found in factors.items()
        if found.shape != base.entries[weight].shape or found.a.shape[0] != found.b.shape[1]
    ]
    if wrong:
        raise NescioError(f"{name}: shapes that differ: {first_three(wrong)}; is it an adapter of this base?")
    return LowRank(factors)


def _is_copy_of_base(key: str, tensor: Tensor, base: Checkpoint) -> bool:
    """Return whether a tensor is the base's own weight, which PEFT stores with adapters of an embedding or head."""
    module = base_weight_of(key)
    weight = tied_embedding(base) if f"{module}.weight".endswith(HEADS) else None
    weight = weight or weight_of(module, base)
    return weight is not None and torch.equal(base.entries[weight].read_all().to(tensor.dtype), tensor)


def weight_of(module: str, base: Checkpoint) -> str | None:
    """Return the base's tensor that is a module's weight; some checkpoints omit the model's own prefix."""
    names = (f"{module}.weight", f"{module.partition('.')[2]}.weight")
    return next((name for name in names if name in base.entries), None)


def module_kinds(base: Checkpoint) -> dict[str, str]:
    """Return the kind of each module that LoRA can adapt, by its path: `linear`, `conv1d` or `embedding`.

    The model is built from its configuration, without memory for its weights.

    Raises:
        NescioError: Transformers does not know the architecture.
    """
    from transformers import AutoConfig
    from transformers.pytorch_utils import Conv1D

    try:
        model = bare_model(AutoConfig.from_pretrained(base.folder))
    except Exception as error:  # Transformers raises what each architecture raises
        raise NescioError(f"{base.name}: Transformers cannot build it ({first_line(error)}); {_MERGE}") from error
    kinds = {torch.nn.Linear: "linear", Conv1D: "conv1d", torch.nn.Embedding: "embedding"}
    return {
        path: kind for path, module in model.named_modules() for cls, kind in kinds.items() if isinstance(module, cls)
    }
