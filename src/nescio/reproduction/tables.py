"""The paper's tables again, from the trainings to the printed rows, beside the paper's own numbers.

Knows recipes, runs and evaluations; nothing of the paper's figures.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from nescio.core.files import write_json, write_jsonl, write_text
from nescio.core.guidance import Guidance
from nescio.data.formats import read_dialogs
from nescio.data.samples import subsample
from nescio.evaluation.kept import Kept
from nescio.evaluation.measure import Plan
from nescio.evaluation.measures.leakage import own_pieces
from nescio.evaluation.run import Subject, evaluate
from nescio.evaluation.setups import Setup
from nescio.pipeline.context import Context, Tick
from nescio.pipeline.evaluate import judge_of, utility_questions
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.run import Reporter
from nescio.pipeline.too_long import of_setups, with_room
from nescio.report.table import MISSING, aligned, count, interval, measured, percent, trust
from nescio.reproduction.paper import TABLES, Row
from nescio.reproduction.trainings import train, whose_answers

_TUNED = "Model-ch, not in the paper's table"
MORE = 150
"""Samples of Table 3's second column."""


def reproduce(name: str, recipe: Recipe, root: Path, reporter: Reporter) -> str:
    """Train what a table needs, evaluate its rows, and write `NAME.md`, `NAME.json` and the answers.

    Args:
        name: `table1`, `table2` or `table3`.
        recipe: What all trainings have in common.
        root: Folder of trainings and tables; what is done there is not done again.
        reporter: Where progress goes.

    Returns:
        The table as Markdown.
    """
    rows = [row for row in TABLES[name] if row.epoch is None or row.epoch <= recipe.train.epochs]
    runs = {variant: train(recipe, variant, root, reporter, until) for variant, until in _needed(rows).items()}
    context = Context(recipe, runs["ch-cfg"], reporter.note)
    sizes = [recipe.evaluate.samples, *([MORE] if name == "table3" else [])]
    found = []
    for size in sizes:
        with reporter.stage(name) as tick:
            results, answers = _measured(rows, runs, context, root, size, tick)
        for row, answered in answers.items():
            write_jsonl(root / f"{name}/{size}/{row}.jsonl", answered)
        write_json(root / f"{name}/{size}/results.json", results)
        found.append(results)
    text = "\n\n".join([table(rows, found), *_below(name, rows, recipe, found[0][0])])
    write_text(root / f"{name}.md", text + "\n")
    return text


def _measured(
    rows: Sequence[Row], runs: dict[str, Path], context: Context, root: Path, size: int, tick: Tick
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Results and answers on so many samples; a judge's verdicts are shared by all tables."""
    recipe = context.recipe
    setups = _setups(rows, runs, recipe)
    subject = Subject(setups, *_plan(context, setups, size), recipe.base, recipe.pairs.positive)
    judge = judge_of(recipe.evaluate, root / "verdicts.jsonl")
    with closing(judge.engine) if judge else nullcontext():
        return evaluate(subject, context.detector, Kept(root / "kept"), tick, judge)


def _needed(rows: Sequence[Row]) -> dict[str, str]:
    """The runs that rows need, and the last stage of each; the one that all others begin with comes first."""
    needed = {"ch-cfg": "samples"}
    for row in rows:
        if row.variant == "subtracted":
            needed["sub"] = "subtract"
        elif row.epoch is not None:
            needed[row.variant] = "train"
    return needed


def _setups(rows: Sequence[Row], runs: dict[str, Path], recipe: Recipe) -> list[Setup]:
    """The tuned model, then the rows; all are asked under the protect sentence, as the author asks them."""
    plain = Guidance(1.0, "log", recipe.pairs.positive, recipe.pairs.negative)
    tuned = Context(recipe, runs["ch-cfg"], print).tuned
    setups = [Setup("tuned", _TUNED, tuned, guidance=plain)]
    for row in rows:
        if row.variant != "tuned":
            guidance = replace(plain, scale=row.scale, space=row.space)
            name = f"{row.variant}-{row.epoch or 0}-{row.scale:g}"
            start = str(runs["sub"] / "subtracted") if row.variant.startswith("sub") else tuned
            adapter = str(runs[row.variant] / f"adapter/epoch-{row.epoch}") if row.epoch else None
            setups.append(Setup(name, row.method, start, adapter, guidance, epoch=row.epoch))
    return setups


def _plan(context: Context, setups: Sequence[Setup], size: int) -> tuple[Plan, list[dict[str, str]]]:
    """What is measured, and the personal data of each sample's dialog."""
    section, seed = context.recipe.evaluate, context.recipe.seed
    samples = subsample(context.samples("test"), size, seed)
    if len(samples) < size:
        context.note(f"{size} samples asked for, {len(samples)} there are; all are used")
    samples = with_room(samples, of_setups(setups, section.max_tokens, section.vllm), context.note)
    dialogs = {dialog.id: dialog for dialog in read_dialogs(context.out / "data/test.jsonl")}
    own = [own_pieces(dialogs[sample.dialog_id], context.detector) for sample in samples]
    questions = utility_questions(section, seed)
    plan = Plan(
        samples, section.max_tokens, questions=questions, judged=questions if section.judge else [], seed=seed,
        engine=section.engine, options=section.vllm,
    )  # fmt: skip
    return plan, own


def table(rows: Sequence[Row], found: Sequence[Sequence[dict[str, Any]]]) -> str:
    """The paper's layout: its numbers, then ours with their intervals, and what they cost in broken answers.

    Args:
        rows: Of the paper's table.
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


def _below(name: str, rows: Sequence[Row], recipe: Recipe, tuned: dict[str, Any]) -> Iterator[str]:
    """What a table's reader has to know beside it, a line each."""
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
