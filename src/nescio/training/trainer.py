"""One trainer for every loss: LoRA, packed batches, exact resume, and the choice of the best epoch.

Built on Transformers' Trainer, so that accelerate's launchers and its checkpoints work.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import LoraConfig, PeftModel, get_peft_model
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
from nescio.core.models import best_device, best_dtype
from nescio.core.shared_prefix import log_probs
from nescio.training.anchors import Anchors
from nescio.training.batch import Batch, Loss, Terms, Unit, lay_out, likelihoods
from nescio.training.checkpoints import checkpoints, claim, last_checkpoint, step_of, stopped
from nescio.training.settings import LoraSettings, TrainingSettings

StepProgress = Callable[[int, int], None]
Judge = Callable[[Any, int], Mapping[str, float]]
"""Given the model and the number of an epoch, returns what is measured after it; `settings.keep` names the one that is
to be lowest."""


class DivergedError(NescioError):
    """A loss or a gradient is not finite."""


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
    work: Path,
    test: Sequence[Unit] | None = None,
    progress: StepProgress | None = None,
    judge: Judge | None = None,
    anchors: Anchors | None = None,
    retain: Anchors | None = None,
    start: Path | None = None,
) -> Trained:
    """Train a LoRA adapter; an interrupted training resumes from its last complete checkpoint.

    Args:
        model: The causal LM; it gets the adapter.
        train: Units of examples to learn; the examples of a unit stay in one step.
        loss: What is minimised: its mean over the examples of all devices.
        settings: Hyperparameters.
        work: Folder of the checkpoints, one an epoch.
        test: Units for a validation pass after each epoch.
        progress: Called with the steps done and all steps.
        judge: Called after each validation pass.
        anchors: What the model is held to beside each step.
        retain: The same, of a half that is to be kept.
        start: Adapter folder that training goes on from; None: a fresh adapter of `settings.lora`.

    Raises:
        NescioError: The loss is not finite (the examples are named), the checkpoints are those of another training, no
            module fits, or something that is to be measured or reported to is missing.
    """
    # 1) refuse what cannot work, before anything is computed
    _check(settings, test, judge)
    beside = [each for each in (anchors, retain) if each]
    claim(work, settings, [*train, *(unit for each in beside for unit in each.units)])
    # 2) attach the adapter, from the same seed in a fresh and in a resumed training
    set_seed(settings.seed)
    adapted = with_lora(model, settings.lora) if start is None else _from(model, start)
    trainer = PackedTrainer(
        adapted, train, loss=loss, settings=settings, work=work, test=test, judge=judge, beside=beside
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
    trainer.train(resume_from_checkpoint=last)
    # 4) choose the epoch
    folders = checkpoints(work)
    steps = [step_of(folder) for folder in folders]
    best = len(steps) if settings.keep == "last" else 1 + steps.index(trainer.state.best_global_step or 0)
    log = [_log_row(row) for row in trainer.state.log_history if "train_runtime" not in row]
    return Trained(model=adapted.eval(), log=log, checkpoints=folders, best=best)


def with_lora(model: Any, lora: LoraSettings) -> Any:
    """Attach a fresh adapter to a model (paper, section 2.3: to all linear layers).

    Raises:
        NescioError: A target names no module of the model.
    """
    if isinstance(lora.targets, list):
        known = [f".{name}" for name, _ in model.named_modules()]
        missing = [target for target in lora.targets if not any(name.endswith(f".{target}") for name in known)]
        if missing or not lora.targets:  # PEFT skips those that match nothing
            raise _unknown_targets(model, missing)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=lora.targets,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise _unknown_targets(model, lora.targets) from error
    adapted.config.use_cache = False
    return adapted


def _from(model: Any, folder: Path) -> Any:
    """Attach a trained adapter, to be trained further."""
    adapted = PeftModel.from_pretrained(model, folder, is_trainable=True)
    adapted.config.use_cache = False
    return adapted


def _unknown_targets(model: Any, targets: str | list[str]) -> NescioError:
    linear = sorted({name.rsplit(".")[-1] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
    return NescioError(f"train.lora.targets: {targets} fits no module of the model; it has {', '.join(linear)}")


def _check(settings: TrainingSettings, test: Sequence[Unit] | None, judge: Judge | None) -> None:
    keep = settings.keep
    if test is None and (keep != "last" or settings.patience is not None):
        raise NescioError(f"train.keep: {keep} needs validation pairs, there are none; give more held-out dialogs")
    if keep == "last" and settings.patience is not None:
        raise NescioError("train.patience: needs a measure to improve; set train.keep to loss, leakage or balanced")
    if keep in ("leakage", "balanced") and judge is None:
        raise NescioError(f"train.keep: {keep} is measured by a run; here keep the last epoch, or the lowest loss")
    for reporter in settings.report_to:
        require(reporter, reporter, "train.report_to")


def _arguments(settings: TrainingSettings, units: int, work: Path, validates: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=units,
        per_device_eval_batch_size=units,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=best_device().type == "cpu",
        bf16=best_dtype() == torch.bfloat16,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        ddp_broadcast_buffers=False,
        ddp_find_unused_parameters=False,  # every adapter is in every row; searching breaks on several rows a step
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="epoch" if settings.save_steps is None else "steps",
        save_steps=settings.save_steps or 1,
        eval_strategy="epoch" if validates else "no",
        metric_for_best_model=None if settings.keep == "last" else settings.keep,
        greater_is_better=False,
        prediction_loss_only=True,
        remove_unused_columns=False,
        report_to=list(settings.report_to),
        disable_tqdm=True,
        dataloader_pin_memory=False,
        restore_callback_states_from_checkpoint=True,  # early stopping remembers the epochs without improvement
    )
    # One process with several GPUs would be wrapped in DataParallel, which cuts packed rows across the devices.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class PackedTrainer(Trainer):
    """Transformers' Trainer on packed rows, with a loss that is a mean over all devices' examples."""

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        train: Sequence[Unit],
        *,
        loss: Loss,
        settings: TrainingSettings,
        work: Path,
        test: Sequence[Unit] | None = None,
        judge: Judge | None = None,
        beside: Sequence[Anchors] = (),
    ) -> None:
        def collate(units: Sequence[Unit]) -> dict[str, Batch]:
            examples = [example for unit in units for example in unit]
            return {"batch": lay_out(examples, settings.row_tokens, settings.prompt_wanted)}

        units = max(1, settings.batch_size // max(len(unit) for unit in train))
        super().__init__(
            model=model,
            args=_arguments(settings, units, work, test is not None),
            train_dataset=list(train),
            eval_dataset=None if test is None else list(test),
            data_collator=collate,
        )
        self._loss, self._work, self._beside, self._states_at = loss, work, beside, settings.states_at
        self._micro, self._at = 1, 0  # batches of this update, and how many of them are done
        self._pulls: dict[str, list[float]] = {each.name: [] for each in beside}
        self._judge = judge
        self._seen: dict[str, dict[str, float]] = {}

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """Return the batches of one update, and their number of examples on all devices together."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._micro, self._at = len(batches), 0
        count = torch.tensor(sum(len(each["batch"].names) for each in batches), device=device)
        return batches, self.accelerator.reduce(count, "sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Return this batch's share of the mean over all examples of the update; remember its terms for the log."""
        batch: Batch = inputs["batch"].to(self.args.device)
        terms = self._loss(likelihoods(model, batch, self._states_at))
        self._record(batch.names, terms)
        examples = terms["loss"] + self._idle(model, batch)  # [examples]
        if num_items_in_batch is not None:
            # The devices' gradients are averaged afterwards, so each contributes its sum times their number.
            examples = examples * (len(examples) * self.accelerator.num_processes / num_items_in_batch)
        return examples.mean() + (self._held(model) if self._beside and model.training else 0.0)

    def _held(self, model: Any) -> Tensor | float:
        """Return this batch's share of the loss of what the model is held to."""
        batch = self.state.global_step * self.args.gradient_accumulation_steps + self._at
        number = batch * self.accelerator.num_processes + self.accelerator.process_index
        self._at += 1
        total: Tensor | float = 0.0
        for each in self._beside:
            loss, bare = each.loss(model, number)
            self._pulls[each.name].append(bare)
            total = total + loss / self._micro
        return total

    def _idle(self, model: Any, batch: Batch) -> Tensor | float:
        """Return zero after computing as many rows as the fullest device: devices that share a model run in step."""
        devices = self.accelerator.num_processes
        if devices == 1:
            return 0.0
        rows = torch.tensor([len(batch.rows)], device=self.args.device)
        missing = int(self.accelerator.gather(rows).max()) - len(batch.rows)
        return sum((0 * log_probs(model, batch.rows[0]).sum() for _ in range(missing)), start=0.0)

    def _record(self, names: list[str], terms: Terms) -> None:
        rows = zip(*(values.detach().tolist() for values in terms.values()), strict=True)
        measured = {name: dict(zip(terms, row, strict=True)) for name, row in zip(names, rows, strict=True)}
        self._seen |= measured
        if bad := [name for name, row in measured.items() if not math.isfinite(row["loss"])]:
            self._stop(f"the loss of {', '.join(bad)} is {measured[bad[0]]['loss']}", self.state.global_step + 1)

    def _stop(self, what: str, step: int) -> None:
        last = last_checkpoint(self._work)
        kept = f"{Path(last).name} is kept" if last else "there is no checkpoint yet"
        raise DivergedError(f"training: {what} at step {step}; lower train.learning_rate or fix these pairs; {kept}")

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of one batch, without gradients."""
        with torch.no_grad():
            return self.compute_loss(model, inputs).detach(), None, None

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Run a validation pass: means over its examples, each counted once, and what the judge measures."""
        output: Any = super().evaluation_loop(*args, **kwargs)
        metrics: dict[str, float] = output.metrics
        metrics |= {f"eval_{name}": mean for name, mean in self._means().items()}
        if self._judge:
            measured = self._judge(self.model, round(self.state.epoch or 0))
            metrics |= {f"eval_{name}": value for name, value in measured.items()}
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to a step's log the means of its terms."""
        if "loss" in logs:
            names = list(self._seen)
            logs |= self._means()
            if not math.isfinite(logs.get("grad_norm", 0.0)):
                self._stop(f"the gradient of {', '.join(names)} is {logs['grad_norm']}", self.state.global_step)
        super().log(logs, start_time)

    def _means(self) -> dict[str, float]:
        """Return means over all devices' examples; an example repeated to fill a batch counts once."""
        seen: dict[str, dict[str, float]] = {}
        for part in gather_object([self._seen]):
            seen |= part
        self._seen = {}
        names = next(iter(seen.values()), {})
        means = {name: math.fsum(row[name] for row in seen.values()) / len(seen) for name in names}
        for name, own in self._pulls.items():
            if pulls := gather_object(own):
                means[name] = math.fsum(pulls) / len(pulls)
                self._pulls[name] = []
        return means


class _Progress(TrainerCallback):
    def __init__(self, report: StepProgress) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._report(state.global_step, state.max_steps)


def _log_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of log.jsonl: without timings, so that a resumed run logs the same as an uninterrupted one."""
    split = "eval" if "eval_loss" in row else "train"
    timing = ("runtime", "samples_per_second", "steps_per_second")
    values = {name.removeprefix("eval_"): value for name, value in row.items() if not name.endswith(timing)}
    return {"split": split, "step": values.pop("step"), "epoch": values.pop("epoch")} | dict(sorted(values.items()))
