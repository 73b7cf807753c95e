"""Baking taken apart: one setting at a time, on the teacher and the anchors of one finished run.

Each variant is baked in a folder of its own that shares the run's earlier stages, and evaluated as the run was: leak
asked plainly, leak asked for, words, everyday answers. What is finished is not done again, so a comparison that was cut
off goes on.

    nescio demo
    python benchmarks/bake.py --run runs/demo --runs runs/bake
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
from nescio.core.files import atomic_write
from nescio.pipeline.progress import Terminal
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Run

VARIANTS: dict[str, dict[str, Any]] = {
    "as the recipe says": {},
    "nobody asks for it": {"asked": 0.0},
    "half ask for it": {"asked": 0.5},
    "no anchors": {"anchor_weight": 0.0},
    "half the anchors": {"anchors_per_step": 2},
    "the training's anchors alone": {"more_anchors": 0},
    "the teacher's answers only": {"rounds": 1, "epochs": 4},
    "half the steps": {"epochs": 1},
    "twice the steps": {"epochs": 4},
    "one draw": {"draws": 1},
    "nothing struck out": {"strike_out": False},
    "teacher: trained, unguided": {"guidance": {"scale": 1.0}},
    "teacher: log × 2, plausible": {"guidance": {"scale": 2.0, "space": "log", "plausibility": 0.1}},
    "teacher: tuned between the sentences": {"teacher": "tuned"},
}
SHARED = ("data", "samples", "pairs", "candidates.jsonl", "failed.jsonl", "sources.json", "anchors.jsonl",
          "anchors.safetensors", "switch.key", "teacher", "tuned", "manifest.json", "recipe.yaml")  # fmt: skip
COLUMNS = (
    "pii", "pii_ci95", "asked_for", "asked_for_worst", "words", "words_ci95", "everyday", "everyday_kl", "degenerate",
)  # fmt: skip


def baked(run: Path, folder: Path, changes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Bake a variant in its folder; its row of the table, and the tuned model's."""
    if not folder.exists():
        with atomic_write(folder) as beside:
            beside.mkdir()
            for name in SHARED:
                if (run / name).exists():
                    (shutil.copytree if (run / name).is_dir() else shutil.copy2)(run / name, beside / name)
    settings = {f"bake.{name}": json.dumps(value) for name, value in changes.items()}
    settings |= {"evaluate.scales": "[]", "seed": seed}
    recipe = load_recipe(run / "recipe.yaml", [f"{name}={value}" for name, value in settings.items()])
    Run(recipe, folder, Terminal(Console(width=110))).bake()
    rows = json.loads((folder / "eval/results.json").read_text())
    return {row["name"]: row for row in rows}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| variant | seed | " + " | ".join(COLUMNS) + " | seconds |", "|---" * (len(COLUMNS) + 3) + "|"]
    for row in rows:
        values = [row.get(column) for column in COLUMNS]
        shown = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values]
        lines.append(f"| {row['variant']} | {row['seed']} | " + " | ".join(shown) + f" | {row['seconds']} |")
    return "\n".join(lines)


def main() -> None:
    """Bake every variant, and the recipe's own with three seeds."""
    parser = options_of(__doc__, "bake", "the first two variants and one seed")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a finished run that baked")
    parser.add_argument("--runs", type=Path, default=Path("runs/bake"), help="folder of the variants")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), help="these variants alone")
    options: argparse.Namespace = parser.parse_args()
    needs(parser, options, "teacher/adapter_config.json")
    quiet_libraries()
    names = options.only or list(VARIANTS)[: 2 if options.quick else None]
    plan = [(name, 0) for name in names] + ([] if options.quick or options.only else [(names[0], 1), (names[0], 2)])
    rows: list[dict[str, Any]] = []
    for name, seed in plan:
        folder = options.runs / f"{''.join(c if c.isalnum() else '-' for c in name)}-{seed}"
        by_name = baked(options.run, folder, VARIANTS[name], seed)
        seconds = json.loads((folder / "manifest.json").read_text())["stages"]["bake"]["seconds"]
        if not rows:
            rows.append({"variant": "tuned", "seed": None, "seconds": None} | by_name["tuned"])
        rows.append({"variant": name, "seed": seed, "seconds": seconds} | by_name["baked"])
        print(table(rows), flush=True)
    kept = ("variant", "seed", "seconds", *COLUMNS)
    leave(options, ("torch", "transformers", "peft"), [{key: row.get(key) for key in kept} for row in rows], {})


if __name__ == "__main__":
    main()
