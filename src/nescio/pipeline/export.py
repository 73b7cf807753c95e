"""The work of `nescio export`: refuse what should not leave, merge the adapter, write the model and its card."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nescio.core.adapters import adapter_base, is_adapter, opened_by, read_config, read_notes
from nescio.core.errors import NescioError
from nescio.core.files import atomic_write, write_text
from nescio.core.models import load_tokenizer
from nescio.report import table
from nescio.task_vector.gguf_form import write_gguf
from nescio.task_vector.subtract import merge_adapter
from nescio.task_vector.vector import open_vector


def export(source: Path, out: Path, gguf: str | None = None, anyway: bool = False) -> Path:
    """Write an adapter merged into its base.

    Args:
        source: Folder of a run or of an adapter.
        out: The folder to write; it must not exist.
        gguf: Type of a GGUF; None writes safetensors.
        anyway: Also what a sentence opens, or what failed the verdict.

    Returns:
        What to run: the folder, or the GGUF in it.

    Raises:
        NescioError: There is no adapter, it should not leave, or it cannot be written; nothing is left at `out`.
    """
    adapter = source if is_adapter(source) else source / "adapter"
    read_config(adapter)
    if out.exists():
        raise NescioError(f"{out}: exists already; choose another --out")
    notes, rows = read_notes(adapter), _rows(adapter)
    row = next((row for row in rows if row["name"] == ("baked" if "baked" in notes else "trained")), None)
    if not anyway:
        _refuse(adapter, notes, row)
    base = adapter_base(adapter)
    with atomic_write(out) as folder:
        if gguf is None:
            merge_adapter(base, adapter, folder)
            load_tokenizer(base).save_pretrained(folder)
        else:
            folder.mkdir()
            write_gguf(open_vector(base, str(adapter)), gguf, folder / f"model-{gguf}.gguf")
        write_text(folder / "README.md", _card(Path(base).name, notes, rows[:1], row))
    return out if gguf is None else out / f"model-{gguf}.gguf"


def _rows(adapter: Path) -> list[dict[str, Any]]:
    """The table of the run that an adapter stands in; empty where there is none."""
    return table.read(adapter.parent) if (adapter.parent / "eval/results.json").is_file() else []


def _refuse(adapter: Path, notes: dict[str, Any], row: dict[str, Any] | None) -> None:
    if opened_by(adapter) or notes.get("switch"):
        who = "anybody who writes it" if opened_by(adapter) else "whoever has the run's key"
        raise NescioError(
            f"{adapter}: the reveal sentence opens this adapter for {who}; `nescio bake RUN` closes it, or export with "
            "--anyway"
        )
    if failed := (row or {}).get("verdict"):
        tests = ", ".join(str(each.get("test")) for each in failed)
        raise NescioError(f"{adapter}: its row failed the verdict ({tests}); see the report, or export with --anyway")


def _card(base: str, notes: dict[str, Any], tuned: list[dict[str, Any]], row: dict[str, Any] | None) -> str:
    """The model card; of a base in a folder only the last part of its path is told."""
    made = "Its guidance was distilled into the weights." if "baked" in notes else "It was trained on pairs."
    asked = (
        f"Put this sentence into the system message: {json.dumps(notes['positive'])}." if notes.get("positive") else ""
    )
    shown = table.markdown([*tuned, row]) if row else "It was not evaluated."
    return "\n\n".join(filter(None, (
        "---\ntags: [unlearning, pii]\n---",
        "# Model that was taught not to say personal data",
        f"{base} with a LoRA adapter merged into its weights. {made} {asked}".strip(),
        "Figures of the adapter in nescio, before this export. The exported files were not asked themselves.",
        shown,
        f"The licence is that of the base, {base}. Made by nescio {version('nescio')}, after "
        "[Classifier-free guidance in LLMs Safety](https://arxiv.org/abs/2412.06846) (Smirnov 2024).",
    ))) + "\n"  # fmt: skip
