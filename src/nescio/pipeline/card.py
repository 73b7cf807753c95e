"""The model card of an export: what was done, the report's table, the licence of the base, and whom it comes from."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from nescio.core.model_source import EMBEDDED, EMBEDDED_HUB_ID
from nescio.core.yaml_config import yaml_value
from nescio.pipeline import hub
from nescio.pipeline.export_check import Export
from nescio.report import table
from nescio.report.table import Row

_EMBEDDED_LICENCE = "apache-2.0"
_FRONT = re.compile(r"\A---\n(.*?)^---", re.M | re.S)
_LIMITS = """\
Personal data is what a detector finds, so that what it misses is neither trained away nor counted. The model may still
know what it no longer says, and a request unlike those that it was trained with may find a way. Read answers before you
rely on it."""


@dataclass(frozen=True, slots=True)
class Base:
    """What an adapter was trained on.

    Attributes:
        name: Name that may be published: a hub id, or the last part of a path.
        hub_id: Hub id of the nearest ancestor that is on the hub.
        licence: As the hub writes it, such as `apache-2.0`; None: not found.
    """

    name: str
    hub_id: str | None
    licence: str | None


def find_base(names: Sequence[str], online: bool) -> Base:
    """Find a base and its licence: in a README.md beside its weights, else on the hub.

    Args:
        names: The base, and what it was made from, nearest first.
        online: Whether to ask the hub.
    """
    ids = [EMBEDDED_HUB_ID if name == EMBEDDED else name for name in names]
    hub_id = next((each for each in ids if each.count("/") == 1 and not Path(each).exists()), None)
    found = (_written(Path(name) / "README.md") for name in names)
    licence = next(filter(None, found), None)
    if licence is None and hub_id:
        licence = _EMBEDDED_LICENCE if hub_id == EMBEDDED_HUB_ID else hub.licence_of(hub_id) if online else None
    return Base(ids[0] if ids[0] == hub_id else Path(ids[0]).name, hub_id, licence)


def _written(readme: Path) -> str | None:
    """The licence in a model card's front matter."""
    try:
        front = _FRONT.match(readme.read_text(encoding="utf-8"))
        values = yaml_value(front[1]) if front else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    licence = values.get("license") if isinstance(values, dict) else None
    return licence if isinstance(licence, str) else None


def card(base: Base, export: Export, notes: Mapping[str, Any], rows: Sequence[Row], checked: bool) -> str:
    """Return README.md of an export.

    Args:
        base: What the adapter was trained on.
        export: What it is written as.
        notes: The adapter's nescio.json.
        rows: The tuned model's and the adapter's row, and the export's if it was checked; empty: never evaluated.
        checked: Whether the export's own row is among them.
    """
    is_adapter = export.name in ("adapter", "lora-f16")
    library = {"merged": "transformers", "adapter": "peft"}.get(export.name)
    front = {
        "license": base.licence or "unknown", "base_model": base.hub_id, "library_name": library,
        "base_model_relation": "adapter" if is_adapter else "finetune" if library else "quantized",
        "pipeline_tag": "text-generation", "tags": ["unlearning", "pii", "nescio"],
    }  # fmt: skip
    front = {key: value for key, value in front.items() if value is not None}
    made = (
        f"A LoRA adapter of {base.name}" if is_adapter else f"{base.name} with a LoRA adapter merged into its weights"
    )
    steps = "ORPO on pairs of an answer with and one without personal data"
    if "baked" in notes:
        steps += ", then classifier-free guidance distilled into its weights: it needs no sentence and no second branch"
    sentence = notes.get("positive")
    asked = f" Put this sentence into the system message: {json.dumps(sentence)}." if sentence else ""
    return "\n\n".join((
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        "# A chat model that was taught not to say personal data",
        f"{made} ({export.label}). The adapter was trained with nescio: {steps}.{asked}",
        "## How it was checked", *_figures(rows, checked), _LIMITS,
        "## Licence and sources", _licence(base),
        f"Made with nescio {version('nescio')}, after [Classifier-free guidance in LLMs Safety]"
        "(https://arxiv.org/abs/2412.06846) (Smirnov 2024).",
    )) + "\n"  # fmt: skip


def _figures(rows: Sequence[Row], checked: bool) -> list[str]:
    """The table, and what its columns say."""
    if not rows:
        return ["It was not evaluated."]
    last = (
        "The last row is this export, asked on its own engine; the others are from the run that made it."
        if checked
        else "These figures are the adapter's, before the export; the exported files were not asked themselves."
    )
    columns = table.measured_columns(rows, "main", "main_if_measured")
    meanings = [f"- *{column.header.partition(' [')[0]}*: {column.meaning}" for column in columns]
    by = f" Detector: {rows[0]['detector']}." if rows[0].get("detector") else ""
    asked = f"All rows answered the same {table.count(rows[0].get('samples'))} held-out samples. {last}{by}"
    return [asked, table.markdown(rows), "\n".join(meanings)]


def _licence(base: Base) -> str:
    source = f" It comes from [{base.hub_id}](https://huggingface.co/{base.hub_id})." if base.hub_id else ""
    if base.licence is None:
        return f"The licence is that of the base, {base.name}; it was not found beside its weights.{source}"
    return f"The licence is that of the base, {base.name}: {base.licence}.{source}"
