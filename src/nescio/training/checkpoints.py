"""The checkpoints of one training: which training they belong to, and which are complete."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, write_json
from nescio.training.batch import Unit
from nescio.training.settings import TrainingSettings


def claim(work: Path, settings: TrainingSettings, train: Sequence[Unit]) -> None:
    """Record what is trained in a folder, and refuse the checkpoints of another training.

    Raises:
        NescioError: The folder holds checkpoints of another training.
    """
    data: list[Any] = [
        [example.group.prompt, [answer.ids for answer in example.group.continuations]]
        for unit in train
        for example in unit
    ]
    targets = (example.targets for unit in train for example in unit)
    data += [blake2b(top.log_probs.numpy().tobytes()).hexdigest() for top in targets if top is not None]
    # A killed training goes on where the processor is another.
    decided = {name: value for name, value in asdict(settings).items() if name != "bf16"}
    mine = {"settings": fingerprint(decided), "examples": fingerprint(data)}
    path = work / "plan.json"
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        differs = [name for name in mine if theirs.get(name, mine[name]) != mine[name]]  # 0.1.0 wrote no `settings`
        if differs:
            raise NescioError(f"{work}: checkpoints of another recipe (its {differs[0]} differ); give another folder")
    else:
        write_json(path, mine)


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
