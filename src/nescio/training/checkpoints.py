"""The checkpoints of one training: which training they belong to, and which are complete."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from hashlib import blake2b
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from nescio.core.adapters import weights_hash
from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, write_json
from nescio.core.shared_prefix import core_of
from nescio.training.anchors import Anchors
from nescio.training.batch import Loss, Unit
from nescio.training.losses.registry import PairLoss
from nescio.training.processes import processes
from nescio.training.settings import TrainingSettings


def claim(
    work: Path,
    settings: TrainingSettings,
    train: Sequence[Unit],
    *,
    model: Any,
    loss: Loss,
    test: Sequence[Unit] = (),
    beside: Sequence[Anchors] = (),
    start: Path | None = None,
) -> None:
    """Record what is trained in a folder, and refuse the checkpoints of another training.

    Args:
        work: The folder.
        settings: Hyperparameters.
        train: Units to learn, and those of the anchors.
        model: The causal LM, with or without an adapter.
        loss: What is minimised.
        test: Units of the validation.
        beside: What the model is held to beside each step.
        start: Adapter folder that training goes on from.

    Raises:
        NescioError: The folder holds checkpoints of another training.
    """
    # A killed training goes on where the processor is another.
    decided = {name: value for name, value in asdict(settings).items() if name != "bf16"}
    held = [[each.name, each.settings.per_step, each.settings.weight, each.seed] for each in beside]
    mine = {
        "settings": fingerprint(decided),
        "examples": fingerprint(_content(train)),
        "validation": fingerprint(_content(test)),
        "loss": _called(loss),
        "anchors": fingerprint(held),
        "start": start and weights_hash(start),
    }
    if processes().is_main_process:  # under FSDP the others may have no weights yet
        mine["base"] = fingerprint(_base(model))
    path = work / "plan.json"
    with processes().main_process_first():
        if not path.exists():
            write_json(path, mine)
        theirs = json.loads(path.read_text(encoding="utf-8"))
    # What an earlier version did not write is not compared.
    if differs := [name for name in mine if theirs.get(name, mine[name]) != mine[name]]:
        raise NescioError(
            f"{work}: checkpoints of another recipe (what differs: {', '.join(differs)}); give another folder"
        )


def _content(units: Sequence[Unit]) -> list[Any]:
    """Return what units teach: their tokens, and hashes of their targets."""
    examples = [example for unit in units for example in unit]
    data: list[Any] = [[each.group.prompt, [answer.ids for answer in each.group.continuations]] for each in examples]
    targets = (example.targets for example in examples)
    return data + [blake2b(top.log_probs.numpy().tobytes()).hexdigest() for top in targets if top is not None]


def _called(loss: Loss) -> str:
    """Return a loss's name and settings, such as `orpo(beta=0.1, nll_over=answer)`; own functions go by their name."""
    function = loss.function if isinstance(loss, PairLoss) else loss
    settings = {name: p.default for name, p in signature(function).parameters.items() if p.default is not p.empty}
    bare: Any = function.func if isinstance(function, partial) else function
    given = [*function.args] if isinstance(function, partial) else []
    shown = [_plain(value) for value in given] + [f"{name}={_plain(value)}" for name, value in settings.items()]
    return f"{getattr(bare, '__qualname__', type(bare).__qualname__)}({', '.join(shown)})"


def _plain(value: Any) -> str:
    """Return a setting in words that are the same in the next process."""
    return str(value) if isinstance(value, str | int | float | None) else type(value).__qualname__


def _base(model: Any) -> list[Any]:
    """Return the names and shapes of the base's weights, and up to eight values along each of their dimensions.

    Adapters are left out. Values are compared in bf16, because a resumed training may load the base in that type; those
    of quantised, sharded and absent weights are not.
    """
    found = []
    for name, weight in core_of(model).named_parameters():
        if "lora_" in name:
            continue
        plain = type(weight.data) is torch.Tensor and weight.is_floating_point() and not weight.is_meta
        some = [slice(None, None, max(1, -(-size // 8))) for size in weight.shape]
        values = weight.data[tuple(some)].to("cpu", torch.bfloat16).flatten().tolist() if plain else None
        found.append([name.replace(".base_layer", ""), list(weight.shape), values])
    return found


def checkpoints(work: Path) -> list[Path]:
    """Return the folders of the checkpoints, first to last."""
    return sorted(work.glob("checkpoint-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the number of updates before a checkpoint."""
    return int(checkpoint.name.split("-")[1])


def last_checkpoint(work: Path) -> str | None:
    """Return the last complete checkpoint; remove those that a kill left incomplete."""
    complete = []
    for folder in checkpoints(work):
        try:
            # The Trainer writes its state last.
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            complete.append(folder)
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
    return str(complete[-1]) if complete else None


def stopped(checkpoint: Path) -> bool:
    """Return whether early stopping had ended the training at a checkpoint."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    control = (state.get("stateful_callbacks") or {}).get("TrainerControl") or {}
    return bool(control.get("args", {}).get("should_training_stop"))
