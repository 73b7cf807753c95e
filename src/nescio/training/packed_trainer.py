"""Transformers' Trainer on packed rows: exact means over all devices, anchors beside a step, what an epoch measures."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import Trainer, TrainingArguments

from nescio.core.errors import NescioError
from nescio.core.models import best_device, best_dtype
from nescio.core.shared_prefix import core_of, log_probs
from nescio.training.anchors import Anchors
from nescio.training.batch import Batch, Loss, Terms, Unit, lay_out, likelihoods
from nescio.training.checkpoints import last_checkpoint
from nescio.training.losses.registry import PairLoss
from nescio.training.settings import TrainingSettings

EpochMeasure = Callable[[Any, int], Mapping[str, float]]
"""Given the model and the number of an epoch, returns what is measured after it; `settings.keep` names the one that is
to be lowest."""


class DivergedError(NescioError):
    """A loss or a gradient is not finite."""


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
        measure: EpochMeasure | None = None,
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
        self._measure = measure
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
        of = likelihoods(model, batch, self._states_at)
        terms = self._loss(of)
        _check_terms(self._loss, terms, len(batch.names))
        self._record(batch.names, terms)
        examples = terms["loss"] + self._idle(model, batch)  # [examples]
        if self._states_at is not None and hasattr(model, "module"):
            examples = examples + 0 * of.tokens.sum()  # DDP waits for a gradient of every layer, also above that one
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
        """Run a validation pass: means over its examples, each counted once, and what `measure` gives."""
        output: Any = super().evaluation_loop(*args, **kwargs)
        metrics: dict[str, float] = output.metrics
        metrics |= {f"eval_{name}": mean for name, mean in self._means().items()}
        if self._measure:
            # Without the wrapper in which accelerate makes products in bf16: what is compared is fp32 before and after.
            measured = self._measure(core_of(self.model), round(self.state.epoch or 0))
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


def _check_terms(loss: Loss, terms: Any, examples: int) -> None:
    """Check what a loss returns: anybody may write one.

    Raises:
        NescioError: It is no mapping with `loss`, a term has not a number for each example, or the loss no gradient.
    """
    name = loss.name if isinstance(loss, PairLoss) else getattr(loss, "__name__", type(loss).__name__)
    if not isinstance(terms, Mapping) or "loss" not in terms:
        raise NescioError(f'loss {name}: must return a dictionary with "loss", is {type(terms).__name__}')
    for term, values in terms.items():
        form = f"a tensor {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        if not isinstance(values, Tensor) or values.shape != (examples,):
            raise NescioError(
                f"loss {name}: {term}: must be a tensor [{examples}], a number for each example, is {form}"
            )
    if torch.is_grad_enabled() and not terms["loss"].requires_grad:
        raise NescioError(f"loss {name}: has no gradient: it is cut off from the answers; leave out detach()")


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
        bf16=settings.bf16 or best_dtype() == torch.bfloat16,
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
