"""One trainer for every loss: LoRA on all linear layers, packed batches, exact resume.

Built on Transformers' Trainer, so that accelerate's launchers and its checkpoints work. Knows groups of token ids and
an objective; nothing of dialogs, pairs or personal data.
"""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from nescio.errors import NescioError
from nescio.packing import Group, Packed, pack

Objective = Callable[[Any, Packed], tuple[Tensor, dict[str, float]]]
"""From a model and a batch to the loss and what to log beside it."""
StepProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; the defaults are the paper's (section 2.3).

    Attributes:
        epochs: Passes over the data.
        batch_size: Groups per step and device; a unit of more groups than this is a batch of its own.
        accumulate: Steps gathered into one update.
        learning_rate: The first; a cosine takes it down to a tenth.
        warmup: Share of the steps in which the rate rises.
        lora_r: Rank.
        lora_alpha: Scale times rank.
        lora_dropout: On the adapters' inputs.
        weight_decay: Of AdamW.
        seed: Of initialisation, order and dropout.
    """

    epochs: int = 3
    batch_size: int = 2
    accumulate: int = 1
    learning_rate: float = 1e-4
    warmup: float = 0.0
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.01
    weight_decay: float = 0.0
    seed: int = 0


def fit(
    model: Any,
    train: Sequence[list[Group]],
    test: Sequence[list[Group]] | None,
    objective: Objective,
    plan: Plan,
    work: Path,
    progress: StepProgress | None = None,
) -> tuple[Any, list[dict[str, Any]]]:
    """Train a LoRA adapter; a run that was cut off goes on from its last whole checkpoint.

    Args:
        model: The causal LM; it gets the adapter.
        train: Units of groups to learn; the groups of a unit stay in one step.
        test: Units for a validation pass after each epoch.
        objective: The loss.
        plan: Hyperparameters.
        work: Folder of the checkpoints, one an epoch.
        progress: Called with (steps done, steps in all).

    Returns:
        The PEFT model and the log, one row a step and one a validation pass.

    Raises:
        NescioError: The loss is no longer a finite number.
    """
    set_seed(plan.seed)
    adapted = get_peft_model(model, lora_config(plan))
    adapted.config.use_cache = False
    units = max(1, plan.batch_size // max(len(unit) for unit in train))
    trainer = _PackedTrainer(objective, adapted, _arguments(plan, units, work, test is not None), list(train), test)
    trainer.remove_callback(PrinterCallback)
    if progress:
        trainer.add_callback(_Progress(progress))
    trainer.train(resume_from_checkpoint=_last_checkpoint(work))
    return adapted.eval(), [_log_row(row) for row in trainer.state.log_history if "train_runtime" not in row]


def lora_config(plan: Plan) -> LoraConfig:
    """LoRA on all linear layers (paper, section 2.3)."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=plan.lora_r,
        lora_alpha=plan.lora_alpha,
        lora_dropout=plan.lora_dropout,
    )


def _arguments(plan: Plan, units: int, work: Path, validates: bool) -> TrainingArguments:
    gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(work),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=units,
        per_device_eval_batch_size=units,
        gradient_accumulation_steps=plan.accumulate,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=plan.warmup,
        weight_decay=plan.weight_decay,
        seed=plan.seed,
        data_seed=plan.seed,
        use_cpu=not gpu,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        logging_steps=1,
        save_strategy="epoch",
        eval_strategy="epoch" if validates else "no",
        prediction_loss_only=True,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=gpu,
    )


class _PackedTrainer(Trainer):
    """Transformers' Trainer with packed rows for batches and an objective for a loss."""

    def __init__(
        self,
        objective: Objective,
        model: Any,
        args: TrainingArguments,
        train: list[list[Group]],
        test: Sequence[list[Group]] | None,
    ) -> None:
        super().__init__(
            model=model, args=args, train_dataset=train, eval_dataset=None if test is None else list(test),
            data_collator=lambda units: {"packed": pack([group for unit in units for group in unit])},
        )  # fmt: skip
        self._objective = objective
        self._seen: dict[str, list[float]] = {}
        # The loss is a mean over groups, so the Trainer has to divide it by the number of accumulated steps.
        self.model_accepts_loss_kwargs = False

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """The objective on one packed row; what it measures is kept for the next log."""
        loss, measured = self._objective(model, inputs["packed"].to(self.args.device))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NescioError(
                f"training: the loss is {value} at step {self.state.global_step + 1}; lower train.learning_rate, the "
                "last checkpoint is kept"
            )
        for name, number in (measured | {"loss": value}).items():
            self._seen.setdefault(name, []).append(number)
        return loss

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss of one packed row, without gradients."""
        with torch.no_grad():
            return self.compute_loss(model, inputs).detach(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of what was measured since the last log."""
        prefix = "eval_" if "eval_loss" in logs else ""
        if prefix or "loss" in logs:
            logs |= {f"{prefix}{name}": math.fsum(seen) / len(seen) for name, seen in self._seen.items()}
            self._seen = {}
        super().log(logs, start_time)


class _Progress(TrainerCallback):
    def __init__(self, report: StepProgress) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._report(state.global_step, state.max_steps)


def _last_checkpoint(work: Path) -> str | None:
    """The last checkpoint that was written to its end; what a kill left half-written is removed."""
    whole = []
    for folder in sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1])):
        try:
            # The Trainer writes its state last.
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            whole.append(folder)
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
    return str(whole[-1]) if whole else None


def _log_row(row: dict[str, Any]) -> dict[str, Any]:
    """One row of log.jsonl: what is measured, without the clock, so that the same run logs the same."""
    split = "eval" if "eval_loss" in row else "train"
    timing = ("runtime", "samples_per_second", "steps_per_second")
    values = {name.removeprefix("eval_"): value for name, value in row.items() if not name.endswith(timing)}
    return {"split": split, "step": values.pop("step"), "epoch": values.pop("epoch")} | values
