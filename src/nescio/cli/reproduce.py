"""`nescio reproduce`: the paper's tables and figures, made again next to the paper's numbers."""

from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.quiet import quiet_libraries


class What(StrEnum):
    """What can be reproduced."""

    TABLE1 = "table1"
    TABLE2 = "table2"
    TABLE3 = "table3"
    FIGURES = "figures"


def reproduce(
    what: Annotated[What, typer.Argument(help="Table of the paper, or its figures.")],
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe that all trainings share. Default: a small one on the embedded model.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of trainings and tables. Finished ones are not done again.")] = Path(
        "runs/reproduce"
    ),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the recipe: a.b=value. Repeatable.")
    ] = None,
) -> None:
    """Reproduce a table of the paper: new rows with intervals, next to the paper's. Tables share trainings."""
    quiet_libraries()
    from nescio.reproduction.make import make

    with as_file(files("nescio") / "recipes/reproduce.yaml") as packaged:
        print(make(what.value, recipe or packaged, set_ or [], out))
