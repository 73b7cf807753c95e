"""`nescio reproduce`: the paper's tables and figures, made again beside its own numbers."""

from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.quiet import quiet_libraries


class What(StrEnum):
    """What can be made again."""

    TABLE1 = "table1"
    TABLE2 = "table2"
    TABLE3 = "table3"
    FIGURES = "figures"


def reproduce(
    what: Annotated[What, typer.Argument(help="Which of the paper's tables, or its figures.")],
    recipe: Annotated[
        Path | None, typer.Option(help="What the trainings have in common; else small ones of the embedded model.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of trainings and tables; what is done is not done again.")] = Path(
        "runs/reproduce"
    ),
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a key of the recipe: a.b=value.")] = None,
) -> None:
    """Make a table of the paper again, our rows with intervals beside its own; trainings are shared between tables."""
    quiet_libraries()
    from nescio.reproduction.make import make

    with as_file(files("nescio") / "recipes/reproduce.yaml") as packaged:
        print(make(what.value, recipe or packaged, set_ or [], out))
