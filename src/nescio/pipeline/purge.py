"""What a run keeps of personal data: masked in a report that can be shown, or deleted."""

import shutil
from collections.abc import Sized
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from nescio.core.errors import NescioError
from nescio.core.files import atomic_write, read_jsonl, write_json, write_text
from nescio.core.yaml_config import read_yaml
from nescio.data.anchors import Recorded
from nescio.data.read_dialogs import read_dialogs
from nescio.pii.base import Span, merge
from nescio.pipeline.context import Context
from nescio.pipeline.forget import FORGOTTEN
from nescio.report import html, table
from nescio.report.redact import Masked, redacted_row

REDACTED, RECIPE = "report-redacted.html", "recipe.yaml"
RECORDED = "PII"
"""Mark of what is recorded, and not seen by the detector."""

_PERSONAL = {
    "data": "the dialogs",
    "samples": "places of the dialogs where personal data is said",
    "candidates.jsonl": "replacement answers, also those that held personal data",
    "failed.jsonl": "requests without an answer",
    "pairs": "answers of the dialogs, as rejected ones",
    "paid.jsonl": "answers of the sources, and what was asked",
    "kept": "answers that are not asked for again",
    "verdicts.jsonl": "answers that a judge saw",
    "eval": "answers of all rows, with what was found in them; results.json stays, masked",
    "checks": "answers of exports; results.json stays, masked",
    FORGOTTEN: "people who asked to be forgotten: later requests no longer train along with them",
    REDACTED: "a copy; report.html is masked then",
}
"""Files and folders of a run that hold personal data, and what they hold."""
_TABLES, RESULTS = ("eval", "checks"), "results.json"
"""Folders whose table stays, masked."""
_WEIGHTS = {
    "tuned": "a model that learned the dialogs; the adapter's base model; the adapter cannot run without it",
    "subtracted": "a model that learned the dialogs in part; the adapter's base model",
    "teacher": "an adapter that says personal data to whoever has the key",
}
"""Folders of weights that may still know; they are deleted on request only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or a folder of a run.

    Attributes:
        path: Where.
        holds: What.
        size: Bytes.
    """

    path: Path
    holds: str
    size: int


def personal(run: Path, models: bool) -> list[Entry]:
    """List what would be deleted.

    Args:
        run: The run folder.
        models: Also the weights that may still know.
    """
    named = _PERSONAL | (_WEIGHTS if models else {})
    unfinished = {path.name: "work of a stage that was stopped" for path in run.glob(".*.*") if path.is_dir()}
    there = [(run / name, holds) for name, holds in (named | unfinished).items() if _is_there(run / name)]
    if denied := _detector(run).get("deny"):
        texts = _counted(denied, "text")
        holds = f"detector.deny holds {texts}; it is emptied, so a later run does the detector's stages again"
        there.append((run / RECIPE, holds))
    return [Entry(path=path, holds=holds, size=_size(path)) for path, holds in there]


def kept(run: Path, models: bool) -> dict[str, str]:
    """Return what stays though it may still know something, or opens something, with the reason."""
    weights = {} if models else {name: f"{holds}; --models deletes it" for name, holds in _WEIGHTS.items()}
    keys = {
        "switch.key": "the sentence of an adapter that is not baked; give it to nobody",
        "forget.key": "tells whom a certificate is about; give it to nobody who must not know",
    }
    there = {name: why for name, why in (weights | keys).items() if (run / name).exists()}
    other = {"allow": "text", "regex": "pattern"}
    settings = {key: value for key, value in _detector(run).items() if key in other and value}
    if settings:
        held = " and ".join(f"detector.{key} ({_counted(value, other[key])})" for key, value in settings.items())
        there[RECIPE] = f"{held} may name people; look, and correct it by hand"
    return there


def purge(run: Context, entries: list[Entry]) -> None:
    """Delete what `personal` listed; the report stays with what it quotes masked, and so do results and recipe.

    Raises:
        NescioError: The report cannot be drawn.
    """
    tables = [entry.path for entry in entries if entry.path.name in _TABLES and (entry.path / RESULTS).exists()]
    # 1) What stays is masked, while the dialogs still tell what is personal.
    if tables:
        masked = masker(run)
        if run.out / "eval" in tables:
            html.write(run.out, masked=masked)
        for folder in tables:
            rows = [redacted_row(row, masked) for row in table.read_rows(folder / RESULTS)]
            with atomic_write(folder) as scratch:
                write_json(scratch / RESULTS, rows)
    # 2) The dialogs go after all others, and then the recipe's texts: a purge that was stopped goes on with masking.
    last = ("data", RECIPE)
    for entry in sorted(entries, key=lambda entry: last.index(entry.path.name) if entry.path.name in last else -1):
        if entry.path.name == RECIPE:
            _without_denied(entry.path)
        elif entry.path not in tables:
            _delete(entry.path)


def masked_report(run: Context) -> Path:
    """Write a copy of the report with the personal data in all that it quotes masked; return it."""
    return html.write(run.out, masked=masker(run), name=REDACTED)


def masker(run: Context) -> Masked:
    """Return what finds personal data in a text: recorded values of the run's dialogs, and what the detector finds.

    Raises:
        NescioError: The dialogs are gone, so that recorded values are not known.
    """
    sides = [run.out / f"data/{side}.jsonl" for side in ("train", "test")]
    if missing := next((path for path in sides if not path.exists()), None):
        raise NescioError(
            f"{missing}: missing, so what is recorded there cannot be masked; was this run purged before?"
        )
    values = {value for path in sides for dialog in read_dialogs(path) for value in (dialog.pii or {}).values()}
    values |= {str(row["value"]) for path in run.out.glob("samples/*.jsonl") for _, row in read_jsonl(path)}
    recorded = Recorded(values, ignore_case=True)

    @cache  # the same prompt stands in several columns and tables
    def masked(text: str) -> list[tuple[int, int, str]]:
        known = [Span(start, end, RECORDED, text[start:end]) for start, end in recorded.places(text)]
        found = merge([*run.detector.find([text])[0], *known], text)
        return [(span.start, span.end, span.label) for span in found]

    return masked


def _recipe(path: Path) -> dict[str, Any]:
    """Return a run's recipe as it is written; of an old one, names and defaults stay what they were."""
    return read_yaml(path, "name the --out of a `nescio run`")[0]


def _detector(run: Path) -> dict[str, Any]:
    section = _recipe(run / RECIPE).get("detector")
    return section if isinstance(section, dict) else {}


def _without_denied(path: Path) -> None:
    recipe = _recipe(path)
    recipe["detector"] = {**recipe["detector"], "deny": []}
    write_text(path, yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))


def _counted(found: Sized, noun: str) -> str:
    return f"{len(found)} {noun}{'' if len(found) == 1 else 's'}"


def _is_there(path: Path) -> bool:
    """Whether there is something to delete; of a table's folder, besides the table."""
    if path.name in _TABLES and path.is_dir():
        return any(each.name != RESULTS for each in path.iterdir())
    return path.exists()


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return (
        path.stat().st_size
        if path.is_file()
        else sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    )
