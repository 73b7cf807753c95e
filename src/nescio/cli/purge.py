"""`nescio purge`: what a run keeps of personal data is deleted."""

from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError


def purge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete; else it is only listed.")] = False,
    models: Annotated[
        bool, typer.Option("--models", help="Also the weights that may still know: tuned/, subtracted/, teacher/.")
    ] = False,
) -> None:
    """List what a run keeps of personal data, and delete it with --yes.

    Adapter, recipe, figures, certificates and the report stay; what the report quotes is masked.
    """
    quiet_libraries()
    from nescio.core.alone import alone
    from nescio.pipeline.context import Context
    from nescio.pipeline.purge import kept, personal
    from nescio.pipeline.purge import purge as delete
    from nescio.pipeline.recipe import recipe_of
    from nescio.pipeline.stage_cache import is_run

    recipe = recipe_of(run)
    if not is_run(run):
        raise NescioError(f"{run}: no run folder, no stage was finished in it; name the --out of a `nescio run`")
    entries = personal(run, models)
    for entry in entries:
        print(f"{entry.path}  ({entry.size / 2**20:.1f} MiB): {entry.holds}")
    for name, why in kept(run, models).items():
        print(f"stays: {run / name}: {why}")
    if not entries:
        print(f"{run}: keeps nothing of personal data")
    elif yes:
        with alone(run):
            delete(Context(recipe, run, print), entries)
        print("deleted")
    else:
        print("Nothing is deleted yet. Do it with --yes; it can't be undone.")
