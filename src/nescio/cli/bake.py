"""`nescio bake`: distil the guidance of a trained run into its adapter."""

from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.options import SetOption
from nescio.cli.quiet import quiet_libraries


def bake(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run.")],
    set_: SetOption = None,
) -> None:
    """Bake a run's guidance into an adapter that needs no sentence, no second branch and no switch, and evaluate it.

    What was trained on pairs is the teacher and stays in teacher/; adapter/ is the baked one.
    """
    quiet_libraries()
    from nescio import compat
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.recipe import recipe_of
    from nescio.pipeline.run import Run
    from nescio.pipeline.stage_cache import read_manifest
    from nescio.report import table, verdict

    recipe = recipe_of(run, set_ or ())
    before = compat.trained_before_anchors(read_manifest(run / "manifest.json")["stages"])
    if before or recipe.bake is None or recipe.train.anchors is None:
        # Anchors for baking alone: those of the training are a matter of the train stage, which is not done again.
        added = {"train.anchors.per_step": 0} if before or recipe.train.anchors is None else {}
        recipe = recipe_of(run, set_ or (), settings={"bake": {}} | added)
    Run(recipe, run, Terminal(standard())).bake()
    rows = table.read(run)
    print(f"\n{verdict.summary(rows)}\nReport: {run / 'report.html'}")
