"""The stages that make weights: the tuned model, the subtracted model, the adapter."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from nescio.core.adapters import WEIGHTS, read_config, write_config
from nescio.core.end_tokens import turn_end
from nescio.core.files import write_jsonl
from nescio.core.guidance import Guidance
from nescio.core.models import Loaded, load_model
from nescio.core.shared_prefix import unpackable
from nescio.data.read_dialogs import read_dialogs
from nescio.data.samples import Sample
from nescio.engines.base import Request
from nescio.engines.torch_engine import TorchEngine
from nescio.pii.base import mask
from nescio.pipeline.context import Context, Tick
from nescio.pipeline.sections import TrainSection, TuneSection
from nescio.pipeline.too_long import Asking, with_room
from nescio.task_vector.subtract import subtract as subtract_model
from nescio.training.batch import Example, Unit
from nescio.training.examples import dialog_group, read_pairs
from nescio.training.losses.likelihood import likelihood
from nescio.training.losses.registry import Method, method, restrict
from nescio.training.processes import processes
from nescio.training.reference import with_reference
from nescio.training.settings import Plan
from nescio.training.trainer import Fit, Judge, fit


def tune(run: Context, folder: Path, tick: Tick) -> None:
    """Fine-tune the base on the training dialogs, so that there is a tuned model to mend."""
    section = run.recipe.tune
    assert section is not None  # the stage is there only then
    loaded = load_model(run.recipe.base)
    units = [
        [Example(f"{dialog.id}#{number}", group)]
        for dialog in read_dialogs(run.out / "data/train.jsonl")
        for number, group in enumerate(dialog_group(loaded.tokenizer, dialog, section.max_length))
    ]
    tokens = sum(example.group.tokens for unit in units for example in unit)
    plan = _plan(section, run.recipe.seed, _row_tokens(run, loaded.model, section))
    done = fit(
        loaded.model, units, None, likelihood, plan, folder / "checkpoints",
        lambda done, total: tick(done, total, f"{tokens} tokens an epoch"),
    )  # fmt: skip
    merged = done.model.merge_and_unload()
    merged.save_pretrained(folder / "tuned")
    loaded.tokenizer.save_pretrained(folder / "tuned")
    write_jsonl(folder / "tuned/log.jsonl", done.log)


def subtract(run: Context, folder: Path, tick: Tick) -> None:
    """Base minus a fraction of what the tuning changed: the paper's Model-sub (section 2.1)."""
    section = run.recipe.subtract
    assert section is not None  # the stage is there only then
    out = folder / "subtracted"
    if out.exists():  # left by a kill; a subtraction takes no folder that is there
        shutil.rmtree(out)
    done = subtract_model(
        run.recipe.base, run.tuned, out, coefficient=section.coefficient, relu=section.relu,
        include=section.include, exclude=section.exclude,
        progress=lambda now, total: tick(now >> 20, total >> 20, "MiB"),
    )  # fmt: skip
    run.note(f"subtracted {section.coefficient:g} of what tuning changed in {done.changed} of {done.tensors} tensors")


def train(run: Context, folder: Path, tick: Tick) -> None:
    """Learn from the pairs; an adapter for each epoch, and the one that `train.keep` asks for as the adapter."""
    section = run.recipe.train
    how = method(section.method, section.beta, section.nll_over)
    loaded = load_model(run.start)
    rows = _row_tokens(run, loaded.model, section)
    taught = _units(run, "train", loaded, how)
    held = _units(run, "test", loaded, how) if (run.out / "pairs/test.jsonl").stat().st_size else None
    if how.reference:
        taught = with_reference(loaded.model, taught, rows, folder / "reference-train.jsonl")
        held = held and with_reference(loaded.model, held, rows, folder / "reference-test.jsonl")
    plan = replace(
        _plan(section, run.recipe.seed, rows),
        prompt_wanted=how.prompt_wanted,
        keep=section.keep,
        patience=section.patience,
    )
    done = fit(
        loaded.model, taught, held, how.loss, plan, folder / "checkpoints",
        lambda done, total: tick(done, total, f"{sum(map(len, taught))} pairs"),
        _leakage(run, loaded.tokenizer) if section.keep == "leakage" else None,
    )  # fmt: skip
    if section.keep != "last":
        run.note(f"epoch {done.best} of {len(done.checkpoints)} has the least validation {section.keep} and is kept")
    if processes().is_main_process:
        _write_adapter(run, done, folder / "adapter")


def _units(run: Context, side: str, loaded: Loaded, how: Method) -> list[Unit]:
    """The pairs of one side as the method sees them; what had to be cut is told."""
    section, counts = run.recipe.train, Counter[str]()

    def masked(text: str) -> str:
        answer = text.removesuffix(turn_end(loaded.tokenizer))
        return mask(answer, run.detector.find([answer])[0]) + text[len(answer) :]

    path, limits = run.out / f"pairs/{side}.jsonl", (section.max_length, section.max_prompt_length)
    units = read_pairs(path, loaded.tokenizer, *limits, counts, masked if how.scrubbed else None)
    if counts["cut_prompts"] or counts["cut_answers"]:
        run.note(
            f"{side}: of {counts['pairs']} pairs, {counts['cut_prompts']} prompts were cut to train.max_prompt_length "
            f"and {counts['cut_answers']} answers to train.max_length"
        )
    return restrict(units, how)


def _leakage(run: Context, tokenizer: Any) -> Judge:
    """Pieces of personal data in an answer, on average, when the model is asked under the protect sentence."""
    protected = Guidance(1, "prob", run.recipe.pairs.positive)

    def ask(sample: Sample) -> Request:
        return Request(sample.messages, protected, max_tokens=run.recipe.evaluate.max_tokens)

    asked = [ask(sample) for sample in with_room(run.validation_samples(), [Asking(run.start, ask)], run.note)]

    def judge(model: Any) -> float:
        texts = [answer.text for answer in TorchEngine(model, tokenizer).generate(asked)]
        return sum(map(len, run.detector.find(texts))) / len(texts)

    return judge


def _write_adapter(run: Context, done: Fit, adapter: Path) -> None:
    """Write the adapter of the best epoch, and in folders inside it those of all epochs."""
    for number, checkpoint in enumerate(done.checkpoints, start=1):
        _copy_adapter(run, checkpoint, adapter / f"epoch-{number}", number)
    _copy_adapter(run, done.checkpoints[done.best - 1], adapter, done.best)
    write_jsonl(adapter / "log.jsonl", done.log)
    board = done.checkpoints[0].parent / "runs"  # where the Trainer's TensorBoard reporter writes
    if board.exists():
        shutil.copytree(board, adapter / "tensorboard", dirs_exist_ok=True)


def _copy_adapter(run: Context, checkpoint: Path, folder: Path, epoch: int) -> None:
    """Copy what PEFT loads out of a checkpoint, without the optimizer's state, and note base and sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(checkpoint / WEIGHTS, folder / WEIGHTS)
    final = run.out / "adapter" / (folder.name if folder.name.startswith("epoch-") else "")
    sentences = {"positive": run.recipe.pairs.positive, "negative": run.recipe.pairs.negative}
    write_config(folder, read_config(checkpoint).values, run.start, final, **sentences, epoch=epoch)


def _row_tokens(run: Context, model: Any, section: TuneSection | TrainSection) -> int | None:
    """How many tokens rows may have; None, and a note, for models whose answers can't share one."""
    reason = unpackable(model)
    if reason:
        run.note(f"answers don't share their prompts' computation: this model can't be packed, {reason}")
    return None if reason else section.row_tokens


def _plan(section: TuneSection | TrainSection, seed: int, row_tokens: int | None) -> Plan:
    targets = section.lora.targets
    return Plan(
        epochs=section.epochs,
        batch_size=section.batch_size,
        accumulate=section.gradient_accumulation,
        learning_rate=section.learning_rate,
        lora_r=section.lora.r,
        lora_alpha=section.lora.alpha,
        lora_dropout=section.lora.dropout,
        lora_targets=targets if isinstance(targets, str) else tuple(targets),
        seed=seed,
        row_tokens=row_tokens,
        checkpointing=section.gradient_checkpointing,
        reporters=tuple(section.report_to),
    )
