"""One trainer for every loss: LoRA on all linear layers, packed batches, exact resume, the best epoch kept.

Built on Transformers' Trainer, so that accelerate's launchers and its checkpoints work. Knows examples of token ids and
a loss; nothing of dialogs, pairs or personal data.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.shared_prefix import log_probs
from nescio.training.batch import Batch, Loss, Unit, lay_out, likelihoods
from nescio.training.checkpoints import checkpoints, claim, last_checkpoint, step_of, stopped
from nescio.training.settings import Plan

StepProgress = Callable[[int, int], None]
Judge = Callable[[Any], float]
"""From the model as it is after an epoch to what should be low."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What came of a training.

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
    test: Sequence[Unit] | None,
    loss: Loss,
    plan: Plan,
    work: Path,
    progress: StepProgress | None = None,
    judge: Judge | None = None,
) -> Fit:
    """Train a LoRA adapter; a run that was cut off goes on from its last whole checkpoint.

    Args:
        model: The causal LM; it gets the adapter.
        train: Units of examples to learn; the examples of a unit stay in one step.
        test: Units for a validation pass after each epoch.
        loss: What is minimised: the mean over the pairs of all devices.
        plan: Hyperparameters.
        work: Folder of the checkpoints, one an epoch.
        progress: Called with (steps done, steps in all).
        judge: Asked after each epoch where `plan.keep` is `leakage`.

    Raises:
        NescioError: The loss is no longer a finite number (the examples are named), the checkpoints are another
            training's, no module fits, or what is to be measured or reported to is missing.
    """
    _check(plan, test, judge)
    claim(work, plan, train)
    set_seed(plan.seed)
    adapted = with_lora(model, plan)
    trainer = _PackedTrainer(loss, adapted, plan, work, list(train), None if test is None else list(test), judge)
    trainer.remove_callback(PrinterCallback)
    if plan.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(plan.patience))
    if progress:
        trainer.add_callback(_Progress(progress))
    last = last_checkpoint(work)
    if last and plan.patience is not None and stopped(Path(last)):
        # The Trainer forgets at its start that it was to stop: it is given no epoch more.
        trainer.args.num_train_epochs = len(checkpoints(work))
    trainer.train(resume_from_checkpoint=last)
    folders = checkpoints(work)
    steps = [step_of(folder) for folder in folders]
    best = len(steps) if plan.keep == "last" else 1 + steps.index(trainer.state.best_global_step or 0)
    log = [_log_row(row) for row in trainer.state.log_history if "train_runtime" not in row]
    return Fit(adapted.eval(), log, folders, best)


def with_lora(model: Any, plan: Plan) -> Any:
    """The model with a fresh adapter (paper, section 2.3: on all linear layers).

    Raises:
        NescioError: No module of the model has such a name.
    """
    targets = plan.lora_targets if isinstance(plan.lora_targets, str) else list(plan.lora_targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=targets,
        r=plan.lora_r,
        lora_alpha=plan.lora_alpha,
        lora_dropout=plan.lora_dropout,
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        linear = sorted({name.rsplit(".")[-1] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
        raise NescioError(
            f"train.lora.targets: {targets} fits no module of the model; it has {', '.join(linear)}"
        ) from error
    adapted.config.use_cache = False
    return adapted


def _check(plan: Plan, test: Sequence[Unit] | None, judge: Judge | None) -> None:
    if test is None and (plan.keep != "last" or plan.patience is not None):
        raise NescioError(f"train.keep: {plan.keep} needs validation pairs, there are none; give more held-out dialogs")
    if plan.keep == "last" and plan.patience is not None:
        raise NescioError("train.patience: what is better than the last? set train.keep to loss or leakage")
    if plan.keep == "leakage" and judge is None:
        raise NescioError("train.keep: leakage is measured by a run; here keep the last epoch, or the lowest loss")
    for reporter in plan.reporters:
        require(reporter, reporter, "train.report_to")


def _arguments(plan: Plan, units: int, work: Path, validates: bool) -> TrainingArguments:
    gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
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
        activation_checkpointing=plan.checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if plan.checkpointing else None,
        ddp_broadcast_buffers=False,
        ddp_find_unused_parameters=False,  # every adapter is in every row; searching breaks on several rows a step
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="epoch",
        eval_strategy="epoch" if validates else "no",
        metric_for_best_model=None if plan.keep == "last" else plan.keep,
        greater_is_better=False,
        prediction_loss_only=True,
        remove_unused_columns=False,
        report_to=list(plan.reporters),
        disable_tqdm=True,
        dataloader_pin_memory=False,
        restore_callback_states_from_checkpoint=True,  # how long patience has lasted already
    )
    # One process with several GPUs would be wrapped in DataParallel, which cuts packed rows across the devices.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class _PackedTrainer(Trainer):
    """Transformers' Trainer with packed rows for batches, and a loss that is a mean over all devices' examples."""

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        loss: Loss,
        model: Any,
        plan: Plan,
        work: Path,
        train: list[Unit],
        test: list[Unit] | None,
        judge: Judge | None,
    ) -> None:
        units = max(1, plan.batch_size // max(len(unit) for unit in train))
        super().__init__(
            model=model, args=_arguments(plan, units, work, test is not None), train_dataset=train, eval_dataset=test,
            data_collator=lambda units: {
                "batch": lay_out([each for unit in units for each in unit], plan.row_tokens, plan.prompt_wanted)
            },
        )  # fmt: skip
        self._loss, self._work = loss, work
        self._judge = judge if plan.keep == "leakage" else None
        self._seen: dict[str, dict[str, float]] = {}

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The batches of one update, and how many examples they are on all devices together."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.tensor(sum(len(each["batch"].names) for each in batches), device=device)
        return batches, self.accelerator.reduce(count, "sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """This batch's share of the mean over all examples of the update; what is measured is kept for the log."""
        batch: Batch = inputs["batch"].to(self.args.device)
        terms = self._loss(likelihoods(model, batch))
        self._keep(batch.names, terms)
        examples = terms["loss"] + self._idle(model, batch)
        if num_items_in_batch is not None:
            # The devices' gradients are averaged afterwards, so each gives its sum times their number.
            examples = examples * (len(examples) * self.accelerator.num_processes / num_items_in_batch)
        return examples.mean()

    def _idle(self, model: Any, batch: Batch) -> Tensor | float:
        """Zero, after as many rows as the device with the most has: devices that share a model wait for each other."""
        devices = self.accelerator.num_processes
        if devices == 1:
            return 0.0
        rows = torch.tensor([len(batch.rows)], device=self.args.device)
        missing = int(self.accelerator.gather(rows).max()) - len(batch.rows)
        return sum((0 * log_probs(model, batch.rows[0]).sum() for _ in range(missing)), start=0.0)

    def _keep(self, names: list[str], terms: dict[str, Tensor]) -> None:
        rows = zip(*(values.detach().tolist() for values in terms.values()), strict=True)
        measured = {name: dict(zip(terms, row, strict=True)) for name, row in zip(names, rows, strict=True)}
        self._seen |= measured
        if bad := [name for name, row in measured.items() if not math.isfinite(row["loss"])]:
            self._stop(f"the loss of {', '.join(bad)} is {measured[bad[0]]['loss']}", self.state.global_step + 1)

    def _stop(self, what: str, step: int) -> None:
        last = last_checkpoint(self._work)
        kept = f"{Path(last).name} is kept" if last else "there is no checkpoint yet"
        raise NescioError(f"training: {what} at step {step}; lower train.learning_rate or mend what is named, {kept}")

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss of one batch, without gradients."""
        with torch.no_grad():
            return self.compute_loss(model, inputs).detach(), None, None

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """A validation pass: means over its examples, each counted once, and what the judge says."""
        output: Any = super().evaluation_loop(*args, **kwargs)
        metrics: dict[str, float] = output.metrics
        metrics |= {f"eval_{name}": mean for name, mean in self._means().items()}
        if self._judge:
            metrics["eval_leakage"] = self._judge(self.model)
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to a step's log the means of what was measured in it."""
        if "loss" in logs:
            names = list(self._seen)
            logs |= self._means()
            if not math.isfinite(logs.get("grad_norm", 0.0)):
                self._stop(f"the gradient of {', '.join(names)} is {logs['grad_norm']}", self.state.global_step)
        super().log(logs, start_time)

    def _means(self) -> dict[str, float]:
        """Means over all devices' examples; one that was dealt out twice to fill a batch is counted once."""
        seen: dict[str, dict[str, float]] = {}
        for part in gather_object([self._seen]):
            seen |= part
        self._seen = {}
        names = next(iter(seen.values()), {})
        return {name: math.fsum(row[name] for row in seen.values()) / len(seen) for name in names}


class _Progress(TrainerCallback):
    def __init__(self, report: StepProgress) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._report(state.global_step, state.max_steps)


def _log_row(row: dict[str, Any]) -> dict[str, Any]:
    """One row of log.jsonl: what is measured, without the clock, so that the same run logs the same, resumed or not."""
    split = "eval" if "eval_loss" in row else "train"
    timing = ("runtime", "samples_per_second", "steps_per_second")
    values = {name.removeprefix("eval_"): value for name, value in row.items() if not name.endswith(timing)}
    return {"split": split, "step": values.pop("step"), "epoch": values.pop("epoch")} | dict(sorted(values.items()))
