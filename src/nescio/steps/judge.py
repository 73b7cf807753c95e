"""The stages after training: answers of every set-up, what is in them, and the report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nescio.data.dialogs import Dialog, read_dialogs
from nescio.data.samples import Sample, subsample
from nescio.engines.torch import load
from nescio.evaluation.leakage import Setup, answer, answer_rows
from nescio.evaluation.quality import fits
from nescio.evaluation.results import mark_best, result_row
from nescio.files import write_json, write_jsonl
from nescio.guidance import Guidance
from nescio.models import release
from nescio.report import figures, html
from nescio.steps.context import Context, Tick

_TOGETHER = 22  # samples answered before their answers are on the disk


def evaluate(run: Context, folder: Path, tick: Tick) -> None:
    """Every set-up's answers to the held-out samples, counted and weighed."""
    section, protect = run.recipe.evaluate, run.recipe.pairs.positive
    samples = subsample(run.samples("test"), section.samples, run.recipe.seed)
    if len(samples) < section.samples:
        run.note(f"{section.samples} samples asked for, {len(samples)} there are; all are used")
    setups = _setups(run)
    rows = _answers(run, folder, setups, samples, tick)
    tick(len(samples), len(samples), "do the answers fit their prompts?")
    fit_of = fits(rows, load(run.recipe.base), run.detector)
    dialogs = {dialog.id: dialog for dialog in read_dialogs(run.out / "data/test.jsonl")}
    own = [_own_pieces(run, dialogs[sample.dialog_id]) for sample in samples]
    table = [result_row(s, rows[s.name], own, fit_of[s.name], protect, run.recipe.seed) for s in setups]
    mark_best(table)
    write_json(folder / "eval/results.json", table)


def report(run: Context, folder: Path, tick: Tick) -> None:
    """Figures and the page."""
    figures.draw(run.out)
    tick(1, 2, "figures")
    html.write(run.out)


def _setups(run: Context) -> list[Setup]:
    section, sentences = run.recipe.evaluate, run.recipe.pairs

    def guided(scale: float, space: Any = "prob") -> Guidance:
        return Guidance(scale, space, sentences.positive, sentences.negative)

    subtracted = [] if run.start == run.tuned else [Setup("subtracted", "subtracted", run.start, None, None)]
    return [
        Setup("tuned", "tuned", run.tuned, None, None),
        Setup("tuned-protect", "tuned + protect prompt", run.tuned, None, guided(1)),
        *subtracted,
        Setup("trained", "trained", run.start, "default", guided(1)),
        *(
            Setup(f"trained-{space}-{scale:g}", "trained", run.start, "default", guided(scale, space))
            for space in section.spaces
            for scale in section.scales
            if scale != 1
        ),
    ]


def _answers(
    run: Context, folder: Path, setups: Sequence[Setup], samples: Sequence[Sample], tick: Tick
) -> dict[str, list[dict[str, Any]]]:
    """Every set-up's answers, some samples at a time; what an earlier, cut-off run finished is taken as it is."""
    rows: dict[str, list[dict[str, Any]]] = {setup.name: [] for setup in setups}
    sources = list(dict.fromkeys(setup.source for setup in setups))
    for order, source in enumerate(sources):
        own = [setup for setup in setups if setup.source == source]
        adapter = run.out / "adapter" if any(setup.adapter for setup in own) else None
        engine = None
        for start in range(0, len(samples), _TOGETHER):
            path, chunk = folder / f"answers/{order}-{start}.json", samples[start : start + _TOGETHER]
            if not path.exists():
                done = order * len(samples) + start
                tick(done, len(sources) * len(samples), f"answers of {len(setups)} set-ups")
                engine = engine or load(source, adapter)
                write_json(path, answer(engine, own, chunk, run.recipe.evaluate.max_tokens))
            for setup, given in zip(own, json.loads(path.read_text(encoding="utf-8")), strict=True):
                rows[setup.name] += answer_rows(chunk, given, run.detector)
        del engine
        release()
    for name, answered in rows.items():
        write_jsonl(folder / f"eval/{name}.jsonl", answered)
    return rows


def _own_pieces(run: Context, dialog: Dialog) -> list[str]:
    if dialog.pii is not None:
        return list(dialog.pii.values())
    found = run.detector.find([message["content"] for message in dialog.messages])
    return [span.text for spans in found for span in spans]
