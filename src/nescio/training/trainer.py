"""One trainer for every loss: LoRA, packed batches, exact resume, and the choice of the best epoch.

Built on Transformers' Trainer, so that accelerate's launchers and its checkpoints work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, set_seed

from nescio.core.block_attention import blockwise
from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.shared_prefix import core_of
from nescio.training.anchors import Anchors
from nescio.training.batch import Loss, Unit
from nescio.training.checkpoints import checkpoints, claim, last_checkpoint, step_of, stopped
from nescio.training.fused_lora import fused
from nescio.training.lora import with_lora, with_trained
from nescio.training.losses.registry import PairLoss
from nescio.training.packed_trainer import DivergedError, EpochMeasure, PackedTrainer
from nescio.training.settings import TrainingSettings

__all__ = ["DivergedError", "EpochMeasure", "PackedTrainer", "Progress", "Trained", "fit", "with_lora"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The result of a training.

    Attributes:
        model: The PEFT model after the last epoch.
        log: One row a step and one a validation pass.
        checkpoints: The folder of each epoch.
        best: Number of the epoch to keep, from 1.
    """

    model: Any
    log: list[dict[str, Any]]
    checkpoints: list[Path]
    best: int


def fit(
    model: Any,
    train: Sequence[Unit],
    *,
    loss: Loss,
    settings: TrainingSettings,
    work: Path | str,
    test: Sequence[Unit] | None = None,
    progress: Progress | None = None,
    measure: EpochMeasure | None = None,
    anchors: Anchors | None = None,
    retain: Anchors | None = None,
    start: Path | None = None,
) -> Trained:
    """Train a LoRA adapter; an interrupted training resumes from its last complete checkpoint.

    Args:
        model: The causal LM; it gets the adapter.
        train: Units of examples to learn; the examples of a unit stay in one step.
        loss: What is minimised: its mean over the examples of all devices. A loss of `open_loss` is bound, and its
            units have gone through `restrict`; they have a reference or targets if it needs them.
        settings: Hyperparameters; `states_at` is that of the loss, if it has one.
        work: Folder of the checkpoints, one an epoch.
        test: Units for a validation pass after each epoch.
        progress: Called with the steps done and all steps.
        measure: Called after each validation pass.
        anchors: What the model is held to beside each step.
        retain: The same, of a half that is to be kept.
        start: Adapter folder that training goes on from; None: a fresh adapter of `settings.lora`.

    Raises:
        NescioError: The loss is not finite (the examples are named), the checkpoints are those of another training, no
            module fits, or something that is to be measured, reported to or learned from is missing.
    """
    # 1) refuse what cannot work, before anything is computed
    work, test = Path(work), test or None
    _check(settings, train, test, measure)
    if isinstance(loss, PairLoss):
        loss = loss.bind()
        loss.check([*train, *(test or ())])
        settings = settings if loss.states_at is None else replace(settings, states_at=loss.states_at)
    beside = [each for each in (anchors, retain) if each]
    taught = [*train, *(unit for each in beside for unit in each.units)]
    claim(work, settings, taught, model=model, loss=loss, test=test or (), beside=beside, start=start)
    # 2) attach the adapter, from the same seed in a fresh and in a resumed training
    set_seed(settings.seed)
    adapted = with_lora(model, settings.lora) if start is None else with_trained(model, start)
    trainer = PackedTrainer(
        adapted, train, loss=loss, settings=settings, work=work, test=test, measure=measure, beside=beside
    )
    trainer.remove_callback(PrinterCallback)
    if settings.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(settings.patience))
    if progress:
        trainer.add_callback(_Progress(progress))
    # 3) train, or resume
    last = last_checkpoint(work)
    if last and settings.patience is not None and stopped(Path(last)):
        # On resuming, the Trainer forgets that it had stopped: allow it no further epoch.
        trainer.args.num_train_epochs = len(checkpoints(work))
    with blockwise(core_of(model)), fused(adapted):
        trainer.train(resume_from_checkpoint=last)
    # 4) choose the epoch
    folders = checkpoints(work)
    steps = [step_of(folder) for folder in folders]
    best = len(steps) if settings.keep == "last" else 1 + steps.index(trainer.state.best_global_step or 0)
    log = [_log_row(row) for row in trainer.state.log_history if "train_runtime" not in row]
    return Trained(model=adapted.eval(), log=log, checkpoints=folders, best=best)


def _check(
    settings: TrainingSettings, train: Sequence[Unit], test: Sequence[Unit] | None, measure: EpochMeasure | None
) -> None:
    keep = settings.keep
    if not train:
        raise NescioError("training: there are no examples; give at least one unit")
    if test is None and (keep != "last" or settings.patience is not None):
        raise NescioError(f"train.keep: {keep} needs validation pairs, there are none; give more held-out dialogs")
    if keep == "last" and settings.patience is not None:
        raise NescioError("train.patience: needs a measure to improve; set train.keep to loss, leakage or balanced")
    if keep != "last" and settings.save_steps is not None:
        raise NescioError(
            f"save_steps: {settings.save_steps} leaves epochs without a checkpoint, which keep: {keep} "
            "chooses from; leave it None, or set keep to last"
        )
    if keep in ("leakage", "balanced") and measure is None:
        raise NescioError(f"train.keep: {keep} is measured by a run; here keep the last epoch, or the lowest loss")
    for reporter in settings.report_to:
        require(reporter, reporter, "train.report_to")


class _Progress(TrainerCallback):
    def __init__(self, report: Progress) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._report(state.global_step, state.max_steps)


def _log_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of log.jsonl: without timings, so that a resumed run logs the same as an uninterrupted one."""
    split = "eval" if "eval_loss" in row else "train"
    timing = ("runtime", "samples_per_second", "steps_per_second")
    values = {name.removeprefix("eval_"): value for name, value in row.items() if not name.endswith(timing)}
    return {"split": split, "step": values.pop("step"), "epoch": values.pop("epoch")} | dict(sorted(values.items()))
