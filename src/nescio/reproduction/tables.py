"""The paper's tables again, from the trainings to the printed rows, next to the paper's own numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nescio.core.files import write_json, write_jsonl, write_text
from nescio.core.guidance import Guidance
from nescio.evaluation.run import evaluate
from nescio.evaluation.setups import Setup
from nescio.pipeline.context import Context
from nescio.pipeline.evaluate import measures, task
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.run import Reporter
from nescio.report.table import MISSING, aligned, count, interval, measured, percent, trust
from nescio.reproduction.paper import TABLES, PaperRow
from nescio.reproduction.trainings import train, whose_answers

_TUNED = "Model-ch, not in the paper's table"
MORE = 150
"""Samples of Table 3's second column."""


def reproduce(name: str, recipe: Recipe, root: Path, reporter: Reporter) -> str:
    """Train what a table needs, evaluate its rows, and write `NAME.md`, the results and the answers.

    Args:
        name: `table1`, `table2` or `table3`.
        recipe: What all trainings have in common.
        root: Folder of trainings and tables; finished work there is not done again.
        reporter: Receives progress.

    Returns:
        The table as Markdown.
    """
    # 1) Train.
    rows = [row for row in TABLES[name] if row.epoch is None or row.epoch <= recipe.train.epochs]
    runs = {variant: train(recipe, variant, root, reporter, until=until) for variant, until in _needed(rows).items()}
    # 2) Evaluate; all tables share the answers and verdicts on disk.
    context, setups = Context(recipe, runs["ch-cfg"], reporter.note), _setups(rows, runs, recipe)
    others = ("leak_draws", "attack_samples", "harmless_prompts", "asked_for_samples", "everyday")
    section = recipe.evaluate.model_copy(update=dict.fromkeys(others, 0))
    chosen, found = list(measures(section)), list[list[dict[str, Any]]]()
    for size in [recipe.evaluate.samples, *([MORE] if name == "table3" else [])]:
        with reporter.stage(name) as tick:
            results, answers = evaluate(task(context, setups, tick, size=size, shared=root), chosen)
        for row, answered in answers.items():
            write_jsonl(root / f"{name}/{size}/{row}.jsonl", answered)
        write_json(root / f"{name}/{size}/results.json", results)
        found.append(results)
    # 3) Print.
    text = "\n\n".join([table(rows, found), *_below(name, rows, recipe, found[0][0])])
    write_text(root / f"{name}.md", text + "\n")
    return text


def _needed(rows: Sequence[PaperRow]) -> dict[str, str]:
    """The runs that rows need, and the last stage of each; the run that all others begin with comes first."""
    needed = {"ch-cfg": "samples"}
    for row in rows:
        if row.variant == "subtracted":
            needed["sub"] = "subtract"
        elif row.epoch is not None:
            needed[row.variant] = "train"
    return needed


def _setups(rows: Sequence[PaperRow], runs: dict[str, Path], recipe: Recipe) -> list[Setup]:
    """The tuned model, then the rows; all are asked under the protect prompt, as the paper's author asks them."""
    run = Context(recipe, runs["ch-cfg"], print)
    plain, tuned = Guidance(1.0, "log", *run.sentences), run.tuned
    setups = [Setup("tuned", _TUNED, tuned, guidance=plain)]
    for row in rows:
        if row.variant != "tuned":
            guidance = replace(plain, scale=row.scale, space=row.space)
            name = f"{row.variant}-{row.epoch or 0}-{row.scale:g}"
            start = str(runs["sub"] / "subtracted") if row.variant.startswith("sub") else tuned
            adapter = str(runs[row.variant] / f"adapter/epoch-{row.epoch}") if row.epoch else None
            setups.append(Setup(name, row.method, start, adapter=adapter, guidance=guidance, epoch=row.epoch))
    return setups


def table(rows: Sequence[PaperRow], found: Sequence[Sequence[dict[str, Any]]]) -> str:
    """Print the paper's layout: its numbers, then ours with their intervals, and the shares of broken answers.

    Args:
        rows: Rows of the paper's table.
        found: Rows of results for each number of samples, the tuned model first.
    """
    more = len(found) > 1
    judged = ["judged [95 %]"] if "judged" in found[0][0] else []
    ours = [*_columns("our utility [95 %]", "our", more), *judged, "degenerate", "on-topic"]
    header = ["method", *_columns("paper's MMLU", "paper's", more), *ours]
    by_row = list(zip(*found, strict=True))
    own_rows = dict(zip([row for row in rows if row.variant != "tuned"], by_row[1:], strict=True))
    tuned = [_TUNED, *[MISSING] * (2 + more), *_ours(by_row[0])]
    lines = [] if any(row.variant == "tuned" for row in rows) else [tuned]
    for row in rows:
        paper = [
            MISSING if row.mmlu is None else f"{row.mmlu:g} %",
            str(row.pii),
            *([str(row.pii_more)] if more else []),
        ]
        lines.append([row.method, *paper, *_ours(own_rows.get(row, by_row[0]))])
    return aligned([header, *lines], left=1)


def _below(name: str, rows: Sequence[PaperRow], recipe: Recipe, tuned: dict[str, Any]) -> Iterator[str]:
    """What a reader of the table has to know, a line each."""
    if left_out := [row.method for row in TABLES[name] if row not in rows]:
        yield f"Left out, because train.epochs is {recipe.train.epochs}: {', '.join(left_out)}"
    if "judge" in tuned:
        yield trust(tuned)
    if name == "table2":
        yield "GPT-data: answers of {}; Llama-data: answers of {}".format(*whose_answers(recipe))


def _columns(utility: str, whose: str, more: bool) -> list[str]:
    return [utility, f"{whose} PII", *([f"{whose} PII, {MORE} samples"] if more else [])]


def _ours(results: Sequence[dict[str, Any]]) -> list[str]:
    first = results[0]
    pii = [f"{count(one['pii'])} {interval(one)}" for one in results]
    judged = [measured(first, "judged")] if "judged" in first else []
    return [measured(first, "utility"), *pii, *judged, percent(first["degenerate"]), percent(first["on_topic"])]
