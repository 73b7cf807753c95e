"""Attacks against the weights of a model on this machine: rounded to few bits, its adapter weaker or detached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from nescio.audit.victim import Victim
from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.models import config_of, load_model
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.setups import Setup

_BLOCK = 32  # weights that share a scale in GGUF; what is cut into no whole blocks stays as it is
_NF4_BLOCK = 64  # the same in NF4, counted through all rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of the weights.

    Attributes:
        title: What the table calls it.
        kind: What the weights are rounded to: `NF4`, or a type of GGUF; None rounds nothing.
        scale: What the adapter is multiplied by.
    """

    title: str
    kind: str | None = None
    scale: float = 1.0

    def fits(self, setup: Setup) -> bool:
        """Whether a model can be changed so; without an adapter there is none to weaken."""
        return setup.adapter is not None or self.scale == 1


CHANGES: Mapping[str, Change] = {
    "q8_0": Change(title="rounded to q8_0", kind="Q8_0"),
    "q4_0": Change(title="rounded to q4_0", kind="Q4_0"),
    "q4_1": Change(title="rounded to q4_1", kind="Q4_1"),
    "nf4": Change(title="rounded to nf4", kind="NF4"),
    "half": Change(title="adapter at half strength", scale=0.5),
    "detached": Change(title="adapter detached", scale=0.0),
}
"""Changes by name. The last two need an adapter."""


def open_changed(victim: Victim, name: str) -> Victim:
    """Open a model of this machine with other weights; an adapter is merged first, as for an export.

    Args:
        victim: The model as it is; its engine may be closed.
        name: One of `CHANGES`.

    Raises:
        NescioError: What rounds is not installed, or the model cannot be loaded.
    """
    change, setup = CHANGES[name], victim.setup
    loaded = load_model(setup.model, torch.float32)
    model = _merged(loaded.model, Path(setup.adapter), change.scale) if setup.adapter else loaded.model
    if change.kind:
        round_weights(model, change.kind)
    engine = TorchEngine(model, loaded.tokenizer)
    return replace(victim, engine=engine, setup=replace(setup, adapter=None), identity=[victim.identity, name])


def check(names: Sequence[str]) -> None:
    """Check the names of changes.

    Raises:
        NescioError: One is unknown, or what it needs is not installed.
    """
    if unknown := [name for name in names if name not in CHANGES]:
        raise NescioError(f"--weights {unknown[0]}: unknown; known here: {', '.join(CHANGES)}")
    for name in names:
        if kind := CHANGES[name].kind:
            _library(kind, f"--weights {name}")


def check_model(model: str, names: Sequence[str]) -> None:
    """Check that a model's weights can be changed.

    Raises:
        NescioError: They are packed in few bits already, as bitsandbytes saves them.
    """
    if names and getattr(config_of(model), "quantization_config", None):
        raise NescioError(f"--weights {names[0]}: {model}: is quantised already; give the model that it was made from")


def _merged(model: Any, adapter: Path, scale: float) -> Any:
    """Return base + scale · adapter."""
    from peft import PeftModel

    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    merged: Any = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    with torch.no_grad():
        for name, weight in merged.named_parameters():
            weight.copy_(before[name] + scale * (weight - before[name]))
    return merged.eval()


def round_weights(model: Any, kind: str) -> None:
    """Round a model's matrices and back, in place, as an export or a loader rounds them.

    In GGUF the embedding and the head stay at Q8_0. NF4 (Dettmers et al. 2023, arXiv 2305.14314, section 3), in blocks
    of 64 as in Transformers, rounds linear layers alone and leaves the embedding and the head as they are.

    Args:
        model: Transformers model, in fp32.
        kind: `NF4`, or a type of `gguf`: `Q8_0`, `Q4_0`, `Q4_1`.

    Raises:
        NotInstalledError: bitsandbytes or gguf is not installed.
    """
    library = _library(kind, "--weights")
    ends = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    with torch.no_grad():
        for module in model.modules():
            weight = getattr(module, "weight", None)
            if weight is None or weight.dim() != 2:
                continue
            if kind != "NF4":
                _round_to_gguf(library, weight, "Q8_0" if id(module) in ends else kind)
            elif isinstance(module, torch.nn.Linear) and id(module) not in ends:
                _round_to_nf4(library, weight)
            elif isinstance(module, Conv1D):
                _round_to_nf4(library, weight.T)


def _library(kind: str, place: str) -> Any:
    """Import what rounds to a kind."""
    return require(*(("bitsandbytes", "quantize") if kind == "NF4" else ("gguf", "gguf")), place)


def _round_to_gguf(gguf: Any, weight: Tensor, kind: str) -> None:
    if weight.shape[1] % _BLOCK == 0:
        number = gguf.GGMLQuantizationType[kind]
        rounded = gguf.quants.dequantize(gguf.quants.quantize(weight.cpu().numpy(), number), number)
        weight.copy_(torch.from_numpy(rounded))


def _round_to_nf4(bnb: Any, weight: Tensor) -> None:
    if weight.numel() % _NF4_BLOCK == 0:
        # A block a row: on CPUs bitsandbytes 0.50 takes wrong scales where a block runs over the end of a row.
        blocks = weight.cpu().reshape(-1, _NF4_BLOCK)
        rounded = bnb.functional.dequantize_nf4(*bnb.functional.quantize_nf4(blocks, blocksize=_NF4_BLOCK))
        weight.copy_(rounded.reshape(weight.shape))
