"""Every `train.method` on the same pairs of one run: what still leaks, what the answers are worth, how long it took.

Takes a finished run (`nescio demo`), trains each variant in a folder of its own that shares the run's earlier stages,
and evaluates it unguided and guided. What is finished is not done again, so a comparison that was cut off goes on.

    nescio demo
    python benchmarks/methods.py --run runs/demo --runs runs/methods
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from _result import leave, needs, options_of
from rich.console import Console

from nescio.commands.quiet import quiet_libraries
from nescio.files import atomic_write, read_jsonl, write_jsonl
from nescio.pipeline import Run
from nescio.progress import Terminal
from nescio.recipe import Recipe, load_recipe

# Losses that only push down diverge at the rate at which ORPO learns; a quarter of it keeps them in one piece.
SLOW = 0.25
VARIANTS: dict[str, dict[str, Any]] = {
    "orpo": {},
    "orpo, nll over prompt and answer": {"nll_over": "prompt_and_answer"},
    "orpo, twins in steps of their own": {},
    "dpo": {"method": "dpo", "rate": SLOW},
    "flat": {"method": "flat"},
    "sft": {"method": "sft"},
    "sft_scrubbed": {"method": "sft_scrubbed"},
    "npo": {"method": "npo", "rate": SLOW},
    "simnpo": {"method": "simnpo", "beta": 2.5, "rate": SLOW},
    "gradient_ascent": {"method": "gradient_ascent", "rate": SLOW},
}
SHARED = ("data", "samples", "candidates.jsonl", "manifest.json")
COLUMNS = ("pii", "pii_ci95", "leaking", "degenerate", "on_topic", "canned", "fluency", "utility", "utility_ci95")


def recipe_of(run: Path, variant: str, options: argparse.Namespace) -> Recipe:
    """The run's recipe with the variant's training; the run's tuned model is taken as given."""
    base = load_recipe(run / "recipe.yaml")
    changes = {"epochs": options.epochs} | VARIANTS[variant]
    changes["learning_rate"] = base.train.learning_rate * changes.pop("rate", 1.0)
    settings = {f"train.{name}": value for name, value in changes.items()}
    settings |= {"tune": "null", "tuned": (run / "tuned").resolve() if base.tune else base.tuned}
    settings |= {"evaluate.samples": options.samples, "evaluate.scales": "[3]", "evaluate.spaces": "[prob]"}
    settings |= {"evaluate.question_count": options.questions}
    return load_recipe(run / "recipe.yaml", [f"{name}={value}" for name, value in settings.items()])


def train_and_evaluate(run: Path, folder: Path, variant: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The variant's rows: unguided, and guided in probability space."""
    recipe, terminal = recipe_of(run, variant, options), Terminal(Console(width=110))
    if not folder.exists():
        with atomic_write(folder) as beside:
            beside.mkdir()
            for name in SHARED:
                copy = shutil.copytree if (run / name).is_dir() else shutil.copy2
                copy(run / name, beside / name)
            Run(recipe, beside, terminal).execute("pairs")
            choose_pairs(beside / "pairs/train.jsonl", options.pairs, "twins" in variant)
    Run(recipe, folder, terminal).execute("evaluate")
    seconds = json.loads((folder / "manifest.json").read_text())["stages"]["train"]["seconds"]
    return [
        {
            "method": variant if row["model"] == "trained" else row["model"],
            "guidance": f"{row['space']} × {row['scale']:g}" if row["space"] else "none",
            "train_seconds": seconds if row["model"] == "trained" else None,
            "learning_rate": recipe.train.learning_rate,
            **{column: row[column] for column in COLUMNS},
        }
        for row in json.loads((folder / "eval/results.json").read_text())
        if row["model"] == "trained" or variant == "orpo"
    ]


def choose_pairs(path: Path, limit: int, torn: bool) -> None:
    """Keep the first pairs, twins together; or part the twins, so that each pair is a unit of its own."""
    rows = [row for _, row in read_jsonl(path)][:limit]
    write_jsonl(path, sorted(rows, key=lambda row: row["twin"] == "reveal") if torn else rows)


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
    parser = options_of(__doc__, "methods", "one variant, four samples")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a run with its pairs")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), help="a folder for each variant")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument(
        "--pairs", type=int, default=120, help="of the run's, an even number: pairs come with their twins"
    )
    parser.add_argument("--samples", type=int, default=30, help="held-out samples answered by each row")
    parser.add_argument("--questions", type=int, default=60, help="plain questions for the utility of each row")
    parser.add_argument("--only", action="append", choices=list(VARIANTS), help="repeatable; else all")
    options = parser.parse_args()
    needs(parser, options, "candidates.jsonl")
    quiet_libraries()
    if options.quick:
        options.samples, options.pairs, options.questions = 4, 8, 10
    variants = ["sft"] if options.quick else options.only or list(VARIANTS)
    rows = []
    for variant in variants:
        folder = options.runs / ("quick" if options.quick else variant.replace(",", "").replace(" ", "-"))
        rows += train_and_evaluate(options.run, folder, variant, options)
    print(table(rows))
    sizes = {name: getattr(options, name) for name in ("epochs", "pairs", "samples", "questions")}
    leave(options, ("torch", "transformers", "peft"), rows, {}, **sizes)


if __name__ == "__main__":
    main()
