"""Every `train.method` on the same pairs of one run: what still leaks, what the answers are worth, how long it took.

Takes a finished run (`nescio demo`), trains each variant in a folder of its own that shares the run's earlier stages,
compresses ORPO's adapter to one bit a weight, and puts all of them into one table, guided too where twins were
trained. What is finished is not done again, so a comparison that was cut off goes on.

    nescio demo
    python benchmarks/methods.py --run runs/demo --runs runs/methods
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _result import leave, needs, options_of
from rich.console import Console

from nescio.cli.quiet import quiet_libraries
from nescio.core import one_bit
from nescio.core.files import atomic_write, read_jsonl, write_jsonl
from nescio.pipeline.progress import Terminal
from nescio.pipeline.recipe import Recipe, load_recipe
from nescio.pipeline.run import Run
from nescio.training.losses.registry import open_loss

# Losses that only push down diverge at the rate at which ORPO learns; a quarter of it keeps them in one piece.
SLOW = 0.25
VARIANTS: dict[str, dict[str, Any]] = {
    "orpo": {},
    "orpo-nll-over-prompt-and-answer": {"nll_over": "prompt_and_answer"},
    "orpo-twins-in-steps-of-their-own": {},
    "dpo": {"method": "dpo", "rate": SLOW},
    "flat": {"method": "flat"},
    "sft": {"method": "sft"},
    "sft_scrubbed": {"method": "sft_scrubbed"},
    "npo": {"method": "npo", "rate": SLOW},
    "simnpo": {"method": "simnpo", "beta": 2.5, "rate": SLOW},
    "gradient_ascent": {"method": "gradient_ascent", "rate": SLOW},
}
FIRST = "orpo"  # its folder holds the table
TINY = "orpo-one-bit"
SHARED = ("data", "samples", "candidates.jsonl", "failed.jsonl", "sources.json", "paid.jsonl", "manifest.json")
GUIDED = {"scale": 3, "space": "prob"}
COLUMNS = (
    "pii", "pii_ci95", "leaking", "degenerate", "on_topic", "canned", "fluency", "utility", "utility_ci95",
)  # fmt: skip


def recipe_of(run: Path, variant: str, options: argparse.Namespace, more: Mapping[str, Any] | None = None) -> Recipe:
    """The run's recipe with the variant's training; the run's tuned model is taken as given."""
    base = load_recipe(run / "recipe.yaml")
    changes = {"epochs": options.epochs} | VARIANTS[variant]
    changes["learning_rate"] = base.train.learning_rate * changes.pop("rate", 1.0)
    settings = {f"train.{name}": value for name, value in changes.items()}
    settings |= {"bake": "null", "train.anchors": "null"}  # methods as published
    settings |= {"tune": "null", "tuned": (run / "tuned").resolve() if base.tune else base.tuned}
    settings |= more or {}
    return load_recipe(run / "recipe.yaml", [f"{name}={value}" for name, value in settings.items()])


def train(run: Path, folder: Path, variant: str, options: argparse.Namespace) -> float:
    """Train a variant in its folder; its seconds."""
    recipe, terminal = recipe_of(run, variant, options), Terminal(Console(width=110))
    if not folder.exists():
        with atomic_write(folder) as beside:
            beside.mkdir()
            for name in SHARED:
                copy = shutil.copytree if (run / name).is_dir() else shutil.copy2
                copy(run / name, beside / name)
            Run(recipe, beside, terminal).execute("pairs")
            choose_pairs(beside / "pairs/train.jsonl", options.pairs, "twins" in variant)
    terminal.note(f"-- {variant}")
    Run(recipe, folder, terminal).execute("train")
    return float(json.loads((folder / "manifest.json").read_text())["stages"]["train"]["seconds"])


def choose_pairs(path: Path, limit: int, torn: bool) -> None:
    """Keep the first pairs, twins together; or part the twins, so that each pair is a unit of its own."""
    rows = [row for _, row in read_jsonl(path)][:limit]
    write_jsonl(path, sorted(rows, key=lambda row: row["twin"] == "reveal") if torn else rows)


def evaluate(run: Path, folder: Path, adapters: Mapping[str, Path], options: argparse.Namespace) -> list[Any]:
    """All adapters in one table, after the tuned model and its protect prompt; guided too where twins were trained."""
    others = [(name, path) for name, path in adapters.items() if name != FIRST]
    rows = [
        {"name": name + suffix, "adapter": str(path.resolve()), "protect": True} | more
        for name, path in others
        for suffix, more in (("", {}), ("-guided", GUIDED))
        if not more or has_twins(name)
    ]
    settings = {
        "samples": options.samples, "question_count": options.questions, "scales": [GUIDED["scale"]],
        "spaces": [GUIDED["space"]], "rows": json.dumps(rows),
    }  # fmt: skip
    recipe = recipe_of(run, FIRST, options, {f"evaluate.{name}": value for name, value in settings.items()})
    Run(recipe, folder, Terminal(Console(width=110))).execute("evaluate")
    return list(json.loads((folder / "eval/results.json").read_text()))


def has_twins(variant: str) -> bool:
    """Whether a variant's adapter has learned the reveal prompt, without which there is nothing to guide by."""
    return open_loss(VARIANTS.get(variant, {}).get("method", "orpo")).uses_twins


def result(row: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
    """A row of the table, from a row of the evaluation."""
    name = FIRST if row["model"] == "trained" else row["model"].removesuffix("-guided")
    return {
        "method": name,
        "guidance": f"{row['space']} × {row['scale']:g}" if row["space"] else "none",
        "train_seconds": seconds.get(name),
        **{column: row[column] for column in COLUMNS},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    names = ("PII [95 %]", "leaking", "degenerate", "on-topic", "canned", "perplexity", "utility [95 %]", "training")
    lines = [f"| method | guidance | {' | '.join(names)} |", "|---|---" + "|--:" * len(names) + "|"]
    for row in rows:
        low, high = row["pii_ci95"]
        shares = " | ".join(f"{row[name]:.0%}" for name in ("leaking", "degenerate", "on_topic", "canned"))
        fluency = "–" if row["fluency"] is None else f"{row['fluency']:.1f}"
        utility = f"{row['utility']:.0%} [{row['utility_ci95'][0]:.0%}, {row['utility_ci95'][1]:.0%}]"
        seconds = "" if row["train_seconds"] is None else f"{row['train_seconds']:.0f} s"
        lines.append(
            f"| {row['method']} | {row['guidance']} | {row['pii']} [{low:.0f}, {high:.0f}] | {shares} | {fluency} | "
            f"{utility} | {seconds} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = options_of(__doc__, "methods", "one variant beside ORPO, four samples")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a run with its pairs")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), help="a folder for each variant")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument(
        "--pairs", type=int, default=120, help="of the run's, an even number: pairs come with their twins"
    )
    parser.add_argument("--samples", type=int, default=44, help="held-out samples answered by each row")
    parser.add_argument("--questions", type=int, default=60, help="plain questions for the utility of each row")
    parser.add_argument("--only", action="append", choices=list(VARIANTS), help="beside ORPO; repeatable; else all")
    options = parser.parse_args()
    needs(parser, options, "candidates.jsonl")
    quiet_libraries()
    if options.quick:
        options.samples, options.pairs, options.questions = 4, 8, 10
        options.only, options.runs = ["sft"], options.runs / "quick"
    chosen = [name for name in VARIANTS if name == FIRST or name in (options.only or VARIANTS)]
    seconds = {name: train(options.run, options.runs / name, name, options) for name in chosen}
    adapters = {name: options.runs / name / "adapter" for name in chosen}
    if not (tiny := options.runs / TINY).exists():
        one_bit.compress(adapters[FIRST], tiny)
    found = evaluate(options.run, options.runs / FIRST, adapters | {TINY: tiny}, options)
    rows = [result(row, seconds) for row in found]
    print(table(rows))
    sizes = {name: getattr(options, name) for name in ("epochs", "pairs", "samples", "questions")}
    leave(options, ("torch", "transformers", "peft"), rows, {}, **sizes)


if __name__ == "__main__":
    main()
