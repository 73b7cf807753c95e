"""`nescio run` and `nescio demo`: a recipe carried out from dialogs to the report."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.options import SetOption
from nescio.cli.quiet import quiet_libraries

_STAGES = "data, tune, merge, subtract, samples, candidates, pairs, anchors, train, bake, evaluate or report"

Out = Annotated[Path, typer.Option("--out", help="Run folder. Finished stages in it are skipped.")]
Until = Annotated[str | None, typer.Option("--until", help=f"Stop after this stage: {_STAGES}.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Print stages, sizes, tokens, time and memory, and do nothing.")]


def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML). `nescio init` writes one.")],
    out: Out = Path("runs/latest"),
    set_: SetOption = None,
    until: Until = None,
    dry_run: Dry = False,
) -> None:
    """Carry out a recipe, from dialogs to the report.

    Run the same command again to resume: finished stages are skipped, and a stage that was stopped goes on.
    """
    _run(recipe, out, set_, until, dry_run)


def demo(out: Out = Path("runs/demo"), set_: SetOption = None, until: Until = None, dry_run: Dry = False) -> None:
    """Teach the embedded model made-up personal data, then make it stop saying it: all stages, on two CPU cores."""
    with as_file(files("nescio") / "recipes/demo.yaml") as recipe:
        _run(recipe, out, set_, until, dry_run)


def _run(path: Path, out: Path, overrides: list[str] | None, until: str | None, dry_run: bool) -> None:
    quiet_libraries()
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.recipe import load_recipe
    from nescio.pipeline.run import Run

    console = standard()
    work = Run(load_recipe(path, overrides or ()), out, Terminal(console))
    if dry_run:
        from nescio.pipeline.estimate import estimate
        from nescio.pipeline.estimate_table import describe, describe_fits

        costs = estimate(work.recipe, work.check(until))
        console.print(describe(costs))
        if any(cost.on_gpu for cost in costs):
            console.print(describe_fits(costs))
        return
    from nescio.report import table, verdict

    work.execute(until)
    if (out / "eval/results.json").exists() and until is None:
        rows = table.read(out)
        print(f"\n{verdict.summary(rows)}\nReport: {out / 'report.html'}")
