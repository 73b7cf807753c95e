"""The checkpoints of one training: whose they are, which are whole. Knows folders; nothing of models."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, write_json
from nescio.training.batch import Unit
from nescio.training.settings import Plan


def claim(work: Path, plan: Plan, train: Sequence[Unit]) -> None:
    """Leave a mark of what is trained, and go on from no other training's checkpoints.

    Raises:
        NescioError: The folder holds another training's.
    """
    data = [
        [example.group.prompt, [answer.ids for answer in example.group.continuations]]
        for unit in train
        for example in unit
    ]
    mine = {"plan": fingerprint(asdict(plan)), "examples": fingerprint(data)}
    path = work / "plan.json"
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        differs = [name for name in mine if theirs.get(name) != mine[name]]
        if differs:
            raise NescioError(f"{work}: checkpoints of another recipe (its {differs[0]} differ); give another folder")
    else:
        write_json(path, mine)


def checkpoints(work: Path) -> list[Path]:
    """Their folders, first to last."""
    return sorted(work.glob("checkpoint-*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The number of updates after which a checkpoint was made."""
    return int(checkpoint.name.split("-")[1])


def last_checkpoint(work: Path) -> str | None:
    """The last checkpoint that was written to its end; what a kill left half-written is removed."""
    whole = []
    for folder in checkpoints(work):
        try:
            # The Trainer writes its state last.
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            whole.append(folder)
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
    return str(whole[-1]) if whole else None


def stopped(checkpoint: Path) -> bool:
    """Whether training had lost its patience when a checkpoint was made."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    control = (state.get("stateful_callbacks") or {}).get("TrainerControl") or {}
    return bool(control.get("args", {}).get("should_training_stop"))
