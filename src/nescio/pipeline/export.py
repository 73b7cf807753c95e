"""The work of `nescio export`: refuse what should not leave, write it as others run it, check it there, and push it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nescio.core.adapters import (
    CONFIG,
    NOTES,
    REWRITE_ADAPTER,
    WEIGHTS,
    adapter_base,
    is_adapter,
    opened_by,
    read_config,
    read_notes,
    read_weights,
    weights_hash,
)
from nescio.core.callbacks import Note
from nescio.core.end_tokens import end_token_ids
from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.files import atomic_write, read_object, write_json, write_text
from nescio.core.models import load_tokenizer
from nescio.core.one_bit import is_one_bit
from nescio.pipeline import hub
from nescio.pipeline.card import card, find_base
from nescio.pipeline.export_check import Export, check, is_checkable, record
from nescio.pipeline.modelfile import modelfile
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Reporter
from nescio.pipeline.stage_cache import is_run
from nescio.report import table
from nescio.report.table import Row
from nescio.task_vector.gguf_form import write_gguf
from nescio.task_vector.gguf_lora import write_lora
from nescio.task_vector.model_form import copy_licences
from nescio.task_vector.subtract import merge_adapter
from nescio.task_vector.vector import open_vector

_MODELFILE = "Modelfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is exported, and what is allowed.

    Attributes:
        gguf: Type of a GGUF; None writes safetensors.
        adapter: The adapter alone, instead of the base with it merged in.
        ollama: Write a Modelfile beside the GGUF.
        check: Ask the export what the run's table asked.
        push: Repository of the hub to push to.
        public: Whether everybody may see that repository.
        with_switch: Export also what a sentence opens.
        anyway: Export also what failed the verdict.
    """

    gguf: str | None = None
    adapter: bool = False
    ollama: bool = False
    check: bool = True
    push: str | None = None
    public: bool = False
    with_switch: bool = False
    anyway: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of an export.

    Attributes:
        path: What to run: the folder, or the GGUF in it.
        rows: The tuned model's, the adapter's and the export's row, where it was checked.
        url: Where it was pushed.
    """

    path: Path
    rows: list[Row]
    url: str | None = None


def export(source: Path, out: Path, wanted: Wanted, reporter: Reporter) -> Done:
    """Write an adapter, or its base with it, as other programs run it.

    Args:
        source: Folder of a run or of an adapter.
        out: The folder to write; it must not exist.
        wanted: In which form, and what is allowed.
        reporter: Receives the progress of the check.

    Raises:
        NescioError: There is no adapter, it should not leave, it cannot be written in this form, its own engine cannot
            answer with it, or the hub refuses it. Nothing is left at `out`, but of an export that is not pushed.
    """
    adapter = source if is_adapter(source) else source / "adapter"
    run = adapter.parent
    if not is_adapter(adapter):
        raise NescioError(
            f"{source}: neither a PEFT adapter's folder nor a run with one in adapter/; finish the run first"
        )
    read_config(adapter)
    # 1) refuse what can be refused before minutes of work
    if out.exists():
        raise NescioError(f"{out}: exists already; choose another --out")
    export = _form(wanted)
    if is_one_bit(adapter):
        raise NescioError(f"{adapter}: compressed to one bit a weight; give the adapter that it was made from")
    if not (adapter / WEIGHTS).is_file():
        raise NescioError(f"{adapter}: holds no {WEIGHTS}; save the adapter with save_pretrained (pickles are refused)")
    checks = wanted.check and is_checkable(run)
    if checks and wanted.gguf:
        require("xllamacpp", "llamacpp", "the check of a GGUF (--no-check leaves it out)")
    notes, base = read_notes(adapter), adapter_base(adapter)
    rows = _rows_before(run, adapter, notes, reporter)
    _refuse(adapter, notes, rows[-1] if rows else {}, wanted)
    if wanted.push:
        if wanted.adapter and not wanted.gguf and Path(base).exists():
            raise NescioError(f"{adapter}: its base is a folder of this machine; push it merged, without --adapter")
        hub.check(wanted.push, wanted.public)
    # 2) write it, and ask it, before it stands at its place
    with atomic_write(out) as folder:
        _write(adapter, base, export, folder, wanted, notes.get("positive") or None, reporter.note)
        answered: dict[str, list[Row]] = {}
        if checks:
            if wanted.adapter and wanted.gguf:  # for the time of the check, beside the folder
                write_gguf(open_vector(base, str(adapter)), "f16", folder.parent / "base.gguf", coefficient=0.0)
            rows, answered = check(run, adapter, export, folder, reporter)
        found = find_base([base, *_ancestors(run)], online=bool(wanted.push))
        write_text(folder / "README.md", card(found, export, notes, rows, checks))
    # 3) let the run's report tell it
    if checks:
        record(run, adapter, export, rows[-1], answered)
    path = out / export.file
    return Done(path=path, rows=rows if checks else [], url=_push(out, wanted, rows) if wanted.push else None)


def _rows_before(run: Path, adapter: Path, notes: dict[str, Any], reporter: Reporter) -> list[Row]:
    """Return the tuned model's row and the adapter's from the run's table; none where it counts another adapter's."""
    rows = table.read(run) if (run / "eval/results.json").is_file() else []
    own = [row for row in rows if row["name"] == ("baked" if "baked" in notes else "trained")]
    # Older tables do not say which adapter they count; a request has changed it since.
    known = {weights_hash(adapter)} if "forgotten" in notes else {weights_hash(adapter), None}
    if own and own[0].get("adapter_hash") not in known:
        reporter.note(f"the table of {run} counts an earlier adapter: `nescio evaluate {run}` makes it again")
        return []
    return [*rows[:1], *own]


def _form(wanted: Wanted) -> Export:
    """Return what is written.

    Raises:
        NescioError: The options exclude each other.
    """
    if wanted.ollama and (wanted.adapter or not wanted.gguf):
        raise NescioError("--ollama: needs the whole model in one GGUF; give --gguf q8_0, and no --adapter")
    if wanted.public and not wanted.push:
        raise NescioError("--public: is about what --push pushes; name the repository, or leave it out")
    if not wanted.gguf:
        return Export("adapter", "PEFT adapter", "transformers") if wanted.adapter else Export()
    if not wanted.adapter:
        return Export(f"gguf-{wanted.gguf}", f"GGUF {wanted.gguf}", "llamacpp", f"model-{wanted.gguf}.gguf")
    if wanted.gguf != "f16":
        raise NescioError(f"--adapter --gguf {wanted.gguf}: a LoRA is written in f16 only; give --gguf f16")
    return Export("lora-f16", "LoRA as GGUF f16", "llamacpp", "adapter-f16.gguf")


def _ancestors(run: Path) -> list[str]:
    """What the base of a run's adapter was made from, nearest first."""
    if not is_run(run):  # an adapter of elsewhere, perhaps beside another tool's recipe.yaml
        return []
    recipe = load_recipe(run / "recipe.yaml")
    return [name for name in (recipe.tuned, recipe.base) if name]


def _refuse(adapter: Path, notes: dict[str, Any], row: Row, wanted: Wanted) -> None:
    if (opened_by(adapter) or notes.get("switch")) and not wanted.with_switch:
        who = "anybody who writes it" if opened_by(adapter) else "whoever has the run's key"
        raise NescioError(
            f"{adapter}: the reveal sentence opens this adapter for {who}; `nescio bake RUN` closes it, or export "
            "--with-switch"
        )
    if (failed := row.get("verdict")) and not wanted.anyway:
        raise NescioError(f"{adapter}: its row failed the verdict ({_tests(failed)}); see the report, or add --anyway")


def _tests(failed: list[dict[str, str]]) -> str:
    return ", ".join(each["test"] for each in failed)


def _write(
    adapter: Path, base: str, export: Export, folder: Path, wanted: Wanted, sentence: str | None, note: Note
) -> None:
    """Write the files, without the card."""
    tokenizer = load_tokenizer(base)
    if wanted.gguf:
        folder.mkdir()
        vector = open_vector(base, str(adapter))
        if wanted.ollama:  # before the weights: a template may not fit
            write_text(folder / _MODELFILE, modelfile(tokenizer, export.file, sentence))
        if wanted.adapter:
            write_lora(vector, folder / export.file)
        else:
            write_gguf(vector, wanted.gguf, folder / export.file)
    elif wanted.adapter:
        read_weights(adapter)  # refuses what is damaged
        folder.mkdir()
        shutil.copyfile(adapter / WEIGHTS, folder / WEIGHTS)
        values = read_object(adapter / CONFIG, REWRITE_ADAPTER)
        write_json(folder / CONFIG, values | {"base_model_name_or_path": base})
        if notes := read_notes(adapter):  # the sentences that `serve` and `chat` ask with, none for a baked adapter
            write_json(folder / NOTES, {name: value for name, value in notes.items() if name != "base"})
        tokenizer.save_pretrained(folder)
    else:
        merge_adapter(base, adapter, folder, note=note)
        tokenizer.save_pretrained(folder)
        _name_ends(folder / "generation_config.json", tokenizer)
    copy_licences(Path(base), folder)


def _name_ends(path: Path, tokenizer: Any) -> None:
    """Name all tokens that end an answer: `generate` reads them here, and knows no chat template."""
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config = SimpleNamespace(eos_token_id=values.get("eos_token_id"))
    write_json(path, values | {"eos_token_id": sorted(end_token_ids(tokenizer, config))})


def _push(out: Path, wanted: Wanted, rows: list[Row]) -> str:
    """Push the folder.

    Raises:
        NescioError: The checked export failed the verdict, or the hub refuses; the folder stays.
    """
    repo = str(wanted.push)
    if (failed := rows[-1].get("verdict") if rows else None) and not wanted.anyway:
        raise NescioError(
            f"{out}: written, not pushed: its row failed the verdict ({_tests(failed)}); --anyway pushes it"
        )
    return hub.push(out, repo, wanted.public)
