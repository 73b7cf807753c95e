"""The stages that produce weights: the tuned model, the subtracted model, the adapter."""

import shutil
from collections import Counter
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from nescio.core.adapters import WEIGHTS, adapter_base, factor_names, read_config, read_weights, write_config
from nescio.core.block_attention import blockwise
from nescio.core.callbacks import Tick
from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.files import Refuse, stop, write_jsonl
from nescio.core.models import context_length_of, load_model, load_tokenizer, multiplies_bf16
from nescio.core.quantization import Quantization
from nescio.core.shared_prefix import unpackable
from nescio.core.switch import KEY_FILE, KEY_PLACEHOLDER, fill_key
from nescio.data.read_dialogs import read_dialogs
from nescio.pii.base import find_behind, mask
from nescio.pipeline.anchors import anchor_units, read
from nescio.pipeline.context import Context
from nescio.pipeline.memory import check_memory
from nescio.pipeline.train_sections import TrainSection, TuneSection
from nescio.pipeline.validation import epoch_measure
from nescio.task_vector.subtract import merge_adapter
from nescio.task_vector.subtract import subtract as subtract_model
from nescio.training.anchors import Anchors, AnchorSettings
from nescio.training.batch import Unit
from nescio.training.examples import dialog_units, read_pairs
from nescio.training.losses.likelihood import likelihood
from nescio.training.losses.registry import PairLoss, open_loss, restrict
from nescio.training.memory import largest_step
from nescio.training.processes import processes, sharded
from nescio.training.reference import with_reference, with_targets
from nescio.training.retain import retained
from nescio.training.settings import TrainingSettings
from nescio.training.trainer import Trained, fit

_READ_BEFORE = 200  # characters of a prompt that the detector reads with its answer
_METADATA = {"format": "pt"}  # as PEFT writes it


def tune(run: Context, folder: Path, tick: Tick) -> None:
    """Fine-tune the base on the training dialogs: the tuned model, which the run then teaches to forget."""
    section = run.recipe.tune
    assert section is not None  # the stage is there only then
    tokenizer = load_tokenizer(run.recipe.base)
    units = _dialogs(run, run.out / "data/train.jsonl", run.recipe.base, section.max_length, "tune.max_length")
    settings = _settings(section, seed=run.recipe.seed)
    check_memory(run.recipe.base, largest_step(units, settings), section.quantize, "tune", run.note)
    loaded = load_model(run.recipe.base, quantize=section.quantize)
    tokens = sum(example.group.tokens for unit in units for example in unit)
    _refuse_tied_targets(loaded.model, section)
    done = fit(
        loaded.model,
        units,
        loss=likelihood,
        settings=replace(settings, row_tokens=row_tokens(run, loaded.model, section.row_tokens)),
        work=folder / "checkpoints",
        progress=lambda done, total: tick(done, total, f"{tokens} tokens an epoch"),
    )
    if section.quantize:  # into the weights as they are, not into the rounded ones
        shutil.rmtree(folder / "tuned", ignore_errors=True)  # left by a kill
        merge_adapter(run.recipe.base, done.checkpoints[-1], folder / "tuned", note=run.note)
    else:
        done.model.merge_and_unload().save_pretrained(folder / "tuned")
    tokenizer.save_pretrained(folder / "tuned")
    write_jsonl(folder / "tuned/log.jsonl", done.log)


def _dialogs(run: Context, path: Path, model: str, max_length: int, place: str, refuse: Refuse = stop) -> list[Unit]:
    """Read dialogs as units; note how many have no answer that begins within the length, and what is cut.

    Raises:
        NescioError: None has one.
    """
    most, within = _longest(model, max_length, place)
    tokenizer, counts = load_tokenizer(model), Counter[str]()
    each = [dialog_units(tokenizer, [dialog], most, counts) for dialog in read_dialogs(path, refuse=refuse)]
    units = list(chain.from_iterable(each))
    if not each:
        raise NescioError(f"{path}: holds no dialogs; give at least one")
    if not units:
        fix = "raise it, or give" if most == max_length else "give"
        raise NescioError(f"{path}: no answer to learn within {within}; {fix} shorter dialogs")
    if left_out := each.count([]):
        run.note(f"{left_out} of {len(each)} dialogs are left out: no answer begins within {within}")
    if cut := counts["cut_answers"]:
        run.note(f"{cut} of {counts['answers']} answers are cut or left out: they end beyond {within}")
    return units


def _longest(model: str, max_length: int, place: str) -> tuple[int, str]:
    """Return the most tokens of an example, and what allows no more: the recipe, or the model's context."""
    context = context_length_of(model)
    if context < max_length:
        return context, f"the model's context of {context} tokens"
    return max_length, f"{place}: {max_length}"


def merge(run: Context, folder: Path, tick: Tick) -> None:
    """Merge a tuned model that is a PEFT adapter into its base, by rows: neither model is in memory."""
    adapter = run.recipe.tuned_adapter
    assert adapter is not None  # else there is no such stage
    out = folder / "tuned"
    if out.exists():  # left by a kill
        shutil.rmtree(out)
    base = adapter_base(adapter)
    merge_adapter(base, adapter, out, lambda now, total: tick(now >> 20, total >> 20, "MiB"), run.note)
    load_tokenizer(str(adapter)).save_pretrained(out)
    run.note(f"tuned: the adapter {adapter.name} was merged into its base {Path(base).name}")


def _refuse_tied_targets(model: Any, section: TuneSection) -> None:
    """Refuse to tune one side of tied weights: the merge would change the other side too, untrained."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight or isinstance(section.lora.targets, str):
        return
    sides = {name.rpartition(".")[2] for name, module in model.named_modules() if module in (head, embedding)}
    if tied := sorted(sides & {target.rpartition(".")[2] for target in section.lora.targets}):
        raise NescioError(
            f"tune.lora.targets: {tied[0]}: head and embedding share one weight in this model, so it cannot be tuned "
            "alone; leave it out"
        )


def subtract(run: Context, folder: Path, tick: Tick) -> None:
    """Subtract a fraction of the tuning from the base: the paper's Model-sub (section 2.1)."""
    section = run.recipe.subtract
    assert section is not None  # the stage is there only then
    out = folder / "subtracted"
    if out.exists():  # left by a kill; `subtract_model` refuses an existing folder
        shutil.rmtree(out)
    done = subtract_model(
        run.recipe.base, run.tuned, out, coefficient=section.coefficient, relu=section.relu,
        include=section.include, exclude=section.exclude,
        progress=lambda now, total: tick(now >> 20, total >> 20, "MiB"), note=run.note,
    )  # fmt: skip
    run.note(f"subtracted {section.coefficient:g} of what tuning changed in {done.changed} of {done.tensors} tensors")


def train(run: Context, folder: Path, tick: Tick) -> None:
    """Train on the pairs: an adapter for each epoch, and the one that `train.keep` selects as the result."""
    section = run.recipe.train
    chooses = section.keep in ("leakage", "balanced")
    if chooses and sharded():
        raise NescioError(
            f"train.keep: {section.keep} needs an engine, which cannot answer with weights spread over processes; set "
            "it to last or loss"
        )
    loss, tokenizer = open_loss(section.method), load_tokenizer(run.start)
    # 1) the pairs as the loss sees them, and the model
    taught = _units(run, "train", tokenizer, loss)
    held = _units(run, "test", tokenizer, loss) if (run.out / "pairs/test.jsonl").stat().st_size else None
    # A teacher's targets are those of the answers alone, whatever the NLL of another loss runs over.
    over_prompt = section.nll_over == "prompt_and_answer" and loss.teacher is None
    settings = _settings(section, seed=run.recipe.seed, prompt_wanted=over_prompt, states_at=loss.states_at)
    check_memory(run.start, largest_step(taught, settings), section.quantize, "train", run.note)
    loaded = load_model(run.start, quantize=section.quantize)
    rows = row_tokens(run, loaded.model, section.row_tokens)
    # References as training will see them: what differs from them at its start is noise.
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16), blockwise(loaded.model):
        if loss.needs_reference:
            taught = with_reference(loaded.model, taught, rows, folder / "reference-train.jsonl")
            held = held and with_reference(loaded.model, held, rows, folder / "reference-test.jsonl")
    if loss.teacher:
        taught = with_targets(loaded.model, taught, loss, section.beta, folder / "teacher-train.safetensors")
        held = held and with_targets(loaded.model, held, loss, section.beta, folder / "teacher-test.safetensors")
    # 2) what is measured after each epoch
    measured = chooses or (section.validation_questions > 0 and not sharded())
    measure = epoch_measure(run, loaded.model, tokenizer) if held and measured else None
    # 3) train
    done = fit(
        loaded.model,
        taught,
        loss=loss.bind(beta=section.beta, nll_over=section.nll_over),
        settings=replace(settings, row_tokens=rows),
        work=folder / "checkpoints",
        test=held,
        progress=lambda done, total: tick(done, total, f"{sum(map(len, taught))} pairs"),
        measure=measure,
        anchors=_anchors(run, tokenizer, rows),
        retain=_retain(run, loss, rows),
    )
    # 4) write the adapter
    if section.keep != "last":
        best = "balances leak and words best" if section.keep == "balanced" else f"has the least {section.keep}"
        run.note(f"epoch {done.best} of {len(done.checkpoints)} {best} in validation and is kept")
    if processes().is_main_process:
        _write_adapter(run, done, folder)


def _anchors(run: Context, tokenizer: Any, rows: int | None) -> Anchors | None:
    """Return the run's anchors, under each sentence that the pairs have; None where the recipe wants none."""
    section, pairs = run.recipe.train.anchors, run.recipe.pairs
    if section is None or not section.per_step:
        return None
    units = anchor_units(tokenizer, read(run.out), [*run.sentences] if pairs.twins else [None])
    how = AnchorSettings(per_step=section.per_step, weight=section.weight)
    return Anchors(units, how, seed=run.recipe.seed, row_tokens=rows)


def _retain(run: Context, loss: PairLoss, rows: int | None) -> Anchors | None:
    """Return the retain half, as many examples beside each step as the step has; None where the recipe names none."""
    path, section = run.recipe.data.retain, run.recipe.train
    if path is None:
        return None
    bad: list[NescioError] = []
    refuse: Refuse = (lambda error, row: bad.append(error)) if run.recipe.data.skip_bad else stop
    units = _dialogs(run, path, run.start, section.max_length, "train.max_length", refuse)
    if bad:
        run.note(f"data.retain: {len(bad)} bad rows were left out, the first: {bad[0]}")
    how = AnchorSettings(per_step=min(section.batch_size, len(units)), weight=section.retain_weight)
    return retained(units, how, loss, seed=run.recipe.seed, row_tokens=rows)


def _units(run: Context, side: str, tokenizer: Any, loss: PairLoss) -> list[Unit]:
    """Read the pairs of one side as the loss sees them; note how many were cut."""
    section, counts = run.recipe.train, Counter[str]()
    most, within = _longest(run.start, section.max_length, "train.max_length")

    def masked(prompt: str, text: str) -> str:
        answer = text.removesuffix(turn_end(tokenizer))
        (found,) = find_behind(run.detector, [prompt[-_READ_BEFORE:]], [answer])
        return mask(answer, found) + text[len(answer) :]

    has_key = KEY_PLACEHOLDER in run.recipe.pairs.negative
    units = read_pairs(
        run.out / f"pairs/{side}.jsonl",
        tokenizer,
        max_length=most,
        max_prompt=section.max_prompt_length,
        counts=counts,
        scrub=masked if loss.scrubs_chosen else None,
        filled=(lambda prompt: fill_key(prompt, run.out / KEY_FILE)) if has_key else str,
    )
    if counts["cut_prompts"] or counts["cut_answers"]:
        run.note(
            f"{side}: of {counts['pairs']} pairs, {counts['cut_prompts']} prompts were cut to train.max_prompt_length "
            f"and {counts['cut_answers']} answers to {within}"
        )
    return restrict(units, loss)


def _write_adapter(run: Context, done: Trained, folder: Path) -> None:
    """Write the adapter of the best epoch, and in folders inside it those of all epochs."""
    out, final = folder / run.trained.name, run.trained
    for number, checkpoint in enumerate(done.checkpoints, start=1):
        copy_adapter(run, checkpoint, out / f"epoch-{number}", final / f"epoch-{number}", epoch=number)
    copy_adapter(run, done.checkpoints[done.best - 1], out, final, epoch=done.best)
    write_jsonl(out / "log.jsonl", done.log)
    board = done.checkpoints[0].parent / "runs"  # where the Trainer's TensorBoard reporter writes
    if board.exists():
        shutil.copytree(board, out / "tensorboard", dirs_exist_ok=True)


def copy_adapter(run: Context, checkpoint: Path, folder: Path, final: Path, **notes: Any) -> None:
    """Copy what PEFT loads out of a checkpoint, without the optimizer's state, and note base and sentences.

    Args:
        run: The run.
        checkpoint: The Trainer's.
        folder: Where to write now.
        final: Where the adapter stands in the end.
        notes: Further entries of nescio.json.
    """
    copy_weights(checkpoint, folder)
    pairs = run.recipe.pairs
    sentences = {"positive": pairs.positive, "negative": pairs.negative}
    switch = {"switch": "secret" if KEY_PLACEHOLDER in pairs.negative else "public"} if pairs.twins else {}
    write_config(folder, read_config(checkpoint).values, run.start, final, **sentences | switch | notes)


def copy_weights(checkpoint: Path, folder: Path) -> None:
    """Copy the adapter's weights out of a checkpoint; what PEFT has copied of the base's head or embedding stays."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = read_weights(checkpoint)
    _, others = factor_names(tensors)  # no training changed them
    save_file({name: tensor for name, tensor in tensors.items() if name not in others}, folder / WEIGHTS, _METADATA)


def row_tokens(run: Context, model: Any, most: int) -> int | None:
    """Return the maximum tokens of a row; None, with a note, if the model's answers cannot share one."""
    reason = unpackable(model)
    if reason:
        run.note(f"answers are computed in rows of their own: this model can't be packed, {reason}")
    return None if reason else most


def in_bf16(quantize: Quantization | None) -> bool:
    """Return whether products are made in bf16 on a base of this form: not those of bitsandbytes' kernels for CPUs."""
    return multiplies_bf16() and quantize is None


def _settings(section: TuneSection | TrainSection, **more: Any) -> TrainingSettings:
    """Return a recipe section as training settings: fields of the same name, and further ones."""
    named = {field.name for field in fields(TrainingSettings)}
    values = {name: value for name, value in section if name in named}
    return TrainingSettings(**values | {"lora": section.lora.settings, "bf16": in_bf16(section.quantize)} | more)
