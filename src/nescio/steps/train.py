"""The stages that make weights: the tuned model, the subtracted model, the adapter."""

import shutil
from pathlib import Path

from nescio.data.dialogs import read_dialogs
from nescio.files import write_json, write_jsonl
from nescio.models import SENTENCES_FILE, load_model
from nescio.recipe import TrainSection, TuneSection
from nescio.steps.context import Context, Tick
from nescio.task_vector.subtract import subtract as subtract_model
from nescio.training.examples import dialog_group, read_pairs
from nescio.training.objectives import likelihood, orpo
from nescio.training.trainer import Plan, fit


def tune(run: Context, folder: Path, tick: Tick) -> None:
    """Fine-tune the base on the training dialogs, so that there is a tuned model to mend."""
    section = run.recipe.tune
    assert section is not None  # the stage is there only then
    loaded = load_model(run.recipe.base)
    dialogs = read_dialogs(run.out / "data/train.jsonl")
    units = [[g] for dialog in dialogs for g in dialog_group(loaded.tokenizer, dialog, section.max_length)]
    work, tokens = folder / "checkpoints", sum(group.tokens for unit in units for group in unit)
    tuned, log = fit(
        loaded.model, units, None, likelihood, _plan(section, run.recipe.seed), work,
        lambda done, total: tick(done, total, f"{tokens} tokens an epoch"),
    )  # fmt: skip
    merged = tuned.merge_and_unload()
    merged.save_pretrained(folder / "tuned")
    loaded.tokenizer.save_pretrained(folder / "tuned")
    write_jsonl(folder / "tuned/log.jsonl", log)


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
    """ORPO with LoRA on the pairs; an adapter for each epoch, the last one attached by default."""
    section, sentences = run.recipe.train, run.recipe.pairs
    loaded = load_model(run.start)
    limits = (section.max_length, section.max_prompt_length)
    taught = read_pairs(run.out / "pairs/train.jsonl", loaded.tokenizer, *limits)
    test_path = run.out / "pairs/test.jsonl"
    held = read_pairs(test_path, loaded.tokenizer, *limits) if test_path.stat().st_size else None
    work = folder / "checkpoints"
    adapted, log = fit(
        loaded.model, taught, held, orpo(section.beta), _plan(section, run.recipe.seed), work,
        lambda done, total: tick(done, total, f"{sum(map(len, taught))} pairs"),
    )  # fmt: skip
    adapter = folder / "adapter"
    adapted.save_pretrained(adapter)
    write_json(adapter / SENTENCES_FILE, {"positive": sentences.positive, "negative": sentences.negative})
    write_jsonl(adapter / "log.jsonl", log)
    for epoch, checkpoint in enumerate(sorted(work.glob("checkpoint-*"), key=_step), start=1):
        _keep_adapter(checkpoint, adapter / f"epoch-{epoch}")


def _plan(section: TuneSection | TrainSection, seed: int) -> Plan:
    return Plan(
        epochs=section.epochs,
        batch_size=section.batch_size,
        accumulate=section.gradient_accumulation,
        learning_rate=section.learning_rate,
        lora_r=section.lora.r,
        lora_alpha=section.lora.alpha,
        lora_dropout=section.lora.dropout,
        seed=seed,
    )


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def _keep_adapter(checkpoint: Path, place: Path) -> None:
    """Copy what PEFT loads out of a checkpoint; the optimizer's state has done its work."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy2(checkpoint / name, place / name)
