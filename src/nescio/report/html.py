"""The report of a run: one HTML file that loads nothing from the network.

All text reaches the page through the template's escaping; only figures drawn here are inserted as they are.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from nescio.core.files import write_text
from nescio.core.prompts import beginning_of
from nescio.report import detector, exports, figures, page_tables, style, table, tradeoffs, verdict
from nescio.report.answers import Answer, read_answers, sample_keys
from nescio.report.compare import compare
from nescio.report.redact import Masked, redacted, redacted_row
from nescio.report.spans import parts
from nescio.report.table import Row

MOST_SAMPLES = 40


def write(run: Path, *others: Path, masked: Masked | None = None, name: str = "report.html") -> Path:
    """Write a run's report, and its figures.

    Args:
        run: The run folder.
        *others: Folders of other runs, to compare with.
        masked: Finds the personal data to mask in all that is quoted; None: it is shown.
        name: Name of the file.

    Returns:
        The file.

    Raises:
        NescioError: A file of the run is missing or damaged.
    """
    contents = _contents(run, masked) | {"compared": [compare(run, other) for other in others]}
    write_text(run / name, environment().get_template("report.html").render(contents))
    return run / name


def _contents(run: Path, masked: Masked | None) -> dict[str, Any]:
    """The values that the template shows."""
    rows = [redacted_row(row, masked) if masked else row for row in table.read(run)]
    recipe, manifest = _mapping(run / "recipe.yaml"), _mapping(run / "manifest.json")
    columns, versions = shown(rows), manifest.get("versions")
    worst = next((at for at, row in enumerate(columns) if row.get("best")), len(columns) - 1)
    samples = _samples(run, columns, worst, masked)
    checked = exports.shown(run, rows)
    drawn = figures.draw(run)
    return {
        "title": run.resolve().name,
        "rows": rows,
        "most_pii": max(row.get("pii") or 0 for row in rows) or 1,
        "verdict": verdict.sentence(rows),
        "details": verdict.details(rows),
        "failed": verdict.failed(rows),
        "seen": detector.seen(rows),
        "stages": _stages(manifest),
        "method": _method(recipe),
        "pii_by_scale": _inline(drawn["pii_by_scale"], "pii"),
        "tradeoffs": _drawn(tradeoffs.leak_against_utility(rows), "tradeoffs"),
        "leak_curves": _drawn(tradeoffs.leak_curves(rows), "leaks"),
        "leaks": tradeoffs.leak_table(rows),
        "main": page_tables.main(rows),
        "costs": page_tables.costs(rows),
        "labels": page_tables.labels(rows),
        "attacks": page_tables.attacks(rows),
        "under_attack": page_tables.under_attack(rows),
        "asked_for": page_tables.asked_for(rows),
        "key_search": page_tables.key_search(rows),
        "checked_rows": checked,
        "checked": page_tables.checked(checked),
        "training": _inline(drawn["training"], "training"),
        "columns": columns,
        "worst": columns[worst],
        "samples": samples[:MOST_SAMPLES],
        "sample_count": len(samples),
        "recipe": yaml.safe_dump(_without_denied(recipe) if masked else recipe, sort_keys=False, allow_unicode=True),
        "seed": manifest.get("seed"),
        "versions": versions if isinstance(versions, dict) else {},
    }


def _stages(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The stages on record, without the report itself: drawing it again changes nothing."""
    recorded = manifest.get("stages")
    stages = recorded.items() if isinstance(recorded, dict) else ()
    return [
        {
            "name": name,
            "duration": _duration(record.get("seconds")),
            "key": record.get("key") or table.MISSING,
            "outputs": record["outputs"] if isinstance(record.get("outputs"), dict) else {},
        }
        for name, record in stages
        if name != "report" and isinstance(record, dict)
    ]


def _without_denied(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a recipe without the texts that its detector always counts: they are personal data."""
    detector = recipe.get("detector")
    return {**recipe, "detector": {**detector, "deny": []}} if isinstance(detector, dict) else recipe


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _method(recipe: Mapping[str, Any]) -> str:
    """The training method; recipes that name none train with ORPO."""
    section = recipe.get("train")
    return str(section.get("method") or "orpo") if isinstance(section, dict) else "orpo"


def _drawn(svg: str | None, name: str) -> Markup | None:
    return None if svg is None else _inline(svg, name)


def environment() -> Environment:
    """Return what renders this package's templates, and pages of other packages in their style."""
    loader = FunctionLoader(lambda name: (files("nescio.report") / name).read_text(encoding="utf-8"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    filters = (table.measured, table.model_name, table.guidance, table.described, table.interval, table.count)
    environment.filters |= {each.__name__: each for each in (*filters, table.percent)}
    environment.filters["prose"] = prose
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment


def prose(text: str) -> Markup:
    """Return a sentence as HTML: commands in backticks become code, and figures stay on a line with their unit."""
    whole = text.replace(" %", "\u00a0%").replace(" → ", "\u00a0→\u00a0")
    parts = [escape(part) for part in whole.split("`")]
    paired = parts if len(parts) % 2 else [escape(whole)]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(paired))


def _mapping(path: Path) -> dict[str, Any]:
    """The object that a YAML or JSON file holds."""
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise table.spoiled(path, "missing" if isinstance(error, FileNotFoundError) else "damaged") from error
    if not isinstance(value, dict):
        raise table.spoiled(path, "damaged")
    return value


def shown(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose answers are shown side by side: tuned, trained at scale 1, and the best one.

    Where none is best it is the baked adapter, which the run leaves in `adapter/`; without one the best guided row.

    Args:
        rows: As in `results.json`, the tuned model first.
    """
    trained = next((row for row in rows[1:] if row["model"] == "trained" and not row.get("space")), None)
    columns = [row for row in (rows[0], trained) if row]
    others = [row for row in rows if row not in columns]
    best = next((row for row in others if row.get("best")), None)
    baked = next((row for row in others if row["name"] == "baked"), None)
    guided = [row for row in others if row.get("space") and row.get("pii") is not None]
    third = best or baked or min(guided, key=lambda row: (row["pii"], -(row.get("on_topic") or 0)), default=None)
    return [*columns, third] if third else columns


def _samples(run: Path, columns: Sequence[Row], worst: int, masked: Masked | None) -> list[dict[str, Any]]:
    """One entry a sample, sorted by what one column and then the tuned model leak: the page cuts off the least."""
    answers = [read_answers(run, row) for row in columns]
    for row, column in zip(columns, answers, strict=True):
        if sample_keys(column) != sample_keys(answers[0]):
            path = run / f"eval/{row['name']}.jsonl"
            raise table.spoiled(path, f"other samples than in {columns[0]['name']}.jsonl")
    samples = sorted(zip(*answers, strict=True), key=lambda same: [-len(same[at]["spans"]) for at in (worst, 0)])
    if masked:  # those that the page shows; a detector takes its time
        samples = [tuple(redacted(each, masked) for each in same) for same in samples[:MOST_SAMPLES]] + samples[
            MOST_SAMPLES:
        ]
    return [_sample(same) for same in samples]


def _sample(same: Sequence[Answer]) -> dict[str, Any]:
    """The end of a prompt, and the answers to it."""
    messages = same[0]["messages"]
    beginning = beginning_of(messages)
    asked = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    answers = [{"count": len(answer["spans"]), "parts": parts(answer["answer"], answer["spans"])} for answer in same]
    return {"id": same[0]["id"], "asked": asked, "beginning": beginning, "answers": answers}


def _inline(svg: str, name: str) -> Markup:
    """Make a figure part of the page: ids of its own, the page's colours, no style sheet, no namespaces."""
    root = ElementTree.fromstring(svg)
    for parent in root.iter():
        for child in [c for c in parent if c.tag.endswith("}style")]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: _own(key, value, name) for key, value in element.attrib.items()}
    for size in ("width", "height"):
        root.attrib.pop(size)
    root.set("aria-hidden", "true")  # its container has the description
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # the serialiser escapes its text


def _own(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    value = re.sub(r"(^|url\()#", rf"\1#{name}-", value)
    for word, color in style.PALETTE.items():
        value = value.replace(color, f"var(--{word}, {color})")
    return value
