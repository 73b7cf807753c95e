"""One of the paper's tables, or its figures, from a recipe file."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nescio.pipeline.progress import Terminal
from nescio.pipeline.recipe import load_recipe
from nescio.reproduction import figures
from nescio.reproduction.tables import reproduce
from nescio.reproduction.trainings import train


def make(what: str, recipe: Path, overrides: Sequence[str], out: Path) -> str:
    """Make a table or the figures of the paper again.

    Args:
        what: `table1`, `table2`, `table3` or `figures`.
        recipe: YAML file with what the trainings have in common.
        overrides: `a.b=value`.
        out: Folder of trainings and tables.

    Returns:
        Text to print: the table, or the paths of the figures.
    """
    common, reporter = load_recipe(recipe, ["preset=paper", *overrides]), Terminal(Console(stderr=True))
    if what != "figures":
        return reproduce(what, common, out, reporter)
    paths = figures.draw(train(common, "ch-cfg", out, reporter), out / "figures")
    return "\n".join(map(str, paths))
