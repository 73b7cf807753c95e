"""`nescio report`: the figures and the page of a run, drawn again."""

from pathlib import Path
from typing import Annotated

import typer

from nescio.core.errors import NescioError


def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    compare: Annotated[list[Path] | None, typer.Option(help="Another run folder to compare with. Repeatable.")] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Also write a copy that can be shown: what it quotes is masked.")
    ] = False,
) -> None:
    """Draw the figures and the report of a run again, and print its table."""
    from nescio.pipeline.recipe import recipe_of
    from nescio.report import html, table, verdict

    recipe = recipe_of(run_folder)  # says so if it is no run
    if not (run_folder / "eval/results.json").is_file():
        raise NescioError(f"{run_folder}: is not evaluated yet; `nescio evaluate {run_folder}` does it")
    rows = table.read(run_folder)
    page = html.write(run_folder, *(compare or ()))
    print(f"{verdict.summary(rows)}\nReport: {page}")
    if redact:
        from nescio.pipeline.context import Context
        from nescio.pipeline.purge import masked_report

        context = Context(recipe, run_folder, print)
        print(f"To be shown: {masked_report(context)}")
