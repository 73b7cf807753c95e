"""A method's training on the forget half: an adapter for each epoch, made once."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nescio.core.adapters import read_config, write_config
from nescio.core.callbacks import Tick
from nescio.core.errors import NescioError
from nescio.core.files import atomic_write, write_jsonl
from nescio.core.models import load_model, release
from nescio.core.prompts import with_sentence
from nescio.core.shared_prefix import Group, unpackable
from nescio.data.benchmarks import Question
from nescio.data.dialogs import Dialog, parse_dialog
from nescio.pipeline.train import copy_weights, in_bf16
from nescio.pipeline.train_sections import TrainSection
from nescio.reproduction.benchmarks.methods import IDK, REFUSE, Method
from nescio.training.anchors import AnchorSettings
from nescio.training.batch import Example, Unit
from nescio.training.examples import dialog_group, dialog_units
from nescio.training.losses.registry import open_loss, restrict
from nescio.training.reference import with_reference, with_targets
from nescio.training.retain import retained
from nescio.training.settings import TrainingSettings
from nescio.training.trainer import Trained, fit


def unlearn(
    method: Method, model: str, forget: Sequence[Question], retain: Sequence[Question], folder: Path, *,
    section: TrainSection, rate: float, seed: int, tick: Tick,
) -> list[Path]:  # fmt: skip
    """Return the adapter of each epoch; what is there is not trained again, and a killed training goes on.

    Args:
        method: With a loss.
        model: The tuned model's folder.
        forget: The forget half.
        retain: The retain half; only a method that wants it sees it.
        folder: Where `epoch-1`, `epoch-2`, … are written.
        section: Epochs, batch, LoRA and lengths.
        rate: Learning rate.
        seed: Seed of initialisation and order.
        tick: Called with progress.

    Raises:
        NescioError: The training diverges.
    """
    adapters = [folder / f"epoch-{number}" for number in range(1, section.epochs + 1)]
    if folder.exists():
        return adapters
    assert method.loss is not None  # ours is a run of the pipeline
    loss, work = open_loss(method.loss), folder.with_name(f"{folder.name}-work")
    loaded = load_model(model, quantize=section.quantize)
    rows = None if unpackable(loaded.model) else section.row_tokens
    # 1) the forget half as the loss sees it
    units = restrict(pairs(loaded.tokenizer, forget, section.max_length), loss)
    if loss.needs_reference:
        units = with_reference(loaded.model, units, rows, work / "reference.jsonl")
    if loss.teacher:
        prompts = {each.id: _refusing_prompt_ids(loaded.tokenizer, each) for each in forget}
        asked = (lambda example: prompts[example.name]) if loss.is_prompted else (lambda example: example.group.prompt)
        units = with_targets(loaded.model, units, loss, method.beta, work / "teacher.safetensors", asked)
    # 2) the retain half, where the method is one that has it
    beside = None
    if method.retain is not None:
        kept = dialog_units(loaded.tokenizer, map(_dialog, retain), section.max_length)
        how = AnchorSettings(per_step=min(section.batch_size, len(kept)), weight=method.retain)
        beside = retained(kept, how, loss, seed=seed, row_tokens=rows)
    # 3) train
    settings = TrainingSettings(
        epochs=section.epochs, batch_size=section.batch_size, learning_rate=rate, seed=seed, row_tokens=rows,
        lora=section.lora.settings, states_at=loss.states_at, bf16=in_bf16(section.quantize),
        gradient_accumulation=section.gradient_accumulation, gradient_checkpointing=section.gradient_checkpointing,
    )  # fmt: skip
    done = fit(
        loaded.model, units, loss=loss.bind(beta=method.beta, nll_over="answer"), settings=settings,
        work=work / "checkpoints", retain=beside,
        progress=lambda now, total: tick(now, total, f"{method.name}, rate {rate:g}, seed {seed}"),
    )  # fmt: skip
    # 4) keep what PEFT loads
    _keep(done, model, adapters)
    shutil.rmtree(work)
    del loaded, done
    release()
    return adapters


def _keep(done: Trained, model: str, adapters: Sequence[Path]) -> None:
    """Write the adapter of each epoch, as PEFT loads it, and the log, all or none."""
    folder = adapters[0].parent
    with atomic_write(folder) as unfinished:
        for adapter, checkpoint in zip(adapters, done.checkpoints, strict=True):
            copy_weights(checkpoint, unfinished / adapter.name)
            write_config(unfinished / adapter.name, read_config(checkpoint).values, model, adapter)
        write_jsonl(unfinished / "log.jsonl", done.log)


def pairs(tokenizer: Any, questions: Sequence[Question], max_length: int) -> list[Unit]:
    """Return a pair for each question: "I don't know" is chosen, the answer is rejected.

    Raises:
        NescioError: A question is too long.
    """
    units: list[Unit] = []
    for number, question in enumerate(questions):
        groups = [
            _group(tokenizer, _dialog(question, answer), max_length)
            for answer in (IDK[number % len(IDK)], question.answer)
        ]
        answers = [answer for group in groups for answer in group.continuations]
        units.append([Example(question.id, Group(groups[0].prompt, answers))])
    return units


def _refusing_prompt_ids(tokenizer: Any, question: Question) -> list[int]:
    """Return the prompt of a question under the sentence that makes the model refuse; the teacher alone sees it."""
    plain = _dialog(question)
    (group,) = dialog_group(tokenizer, Dialog(plain.id, with_sentence(plain.messages, REFUSE)), sys.maxsize)
    return group.prompt


def _group(tokenizer: Any, dialog: Dialog, max_length: int) -> Group:
    groups = dialog_group(tokenizer, dialog, max_length)
    if not groups:
        raise NescioError(f"{dialog.id}: its question fills train.max_length ({max_length}); raise it")
    return groups[0]


def _dialog(question: Question, answer: str | None = None) -> Dialog:
    row = question.as_dialog()
    if answer is not None:
        row["messages"][-1]["content"] = answer
        row.pop("pii", None)
    return parse_dialog(row, question.id)
