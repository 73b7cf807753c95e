"""`nescio reproduce`: the paper's tables and figures again, and methods compared on public benchmarks."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.options import SetOption
from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError

_OF_THE_PAPER = ("table1", "table2", "table3", "figures")


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            help="From the paper: table1, table2, table3, figures. A public benchmark: lume, tofu, unlearnpii, "
            "knowundo, or a plugin's."
        ),
    ],
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe that all trainings share. Default: a small one on the embedded model.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of trainings and tables. Finished ones are not done again. Default: runs/reproduce, of a "
            "benchmark runs/NAME."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of a benchmark's files, in their published form. Default: the hub.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="For a benchmark: few people, one setting and one seed for each method.")
    ] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(help="For a benchmark: compare this method, or a registered loss. Repeatable. Default: all."),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Reproduce a table of the paper next to the paper's numbers, or compare methods on a public benchmark."""
    from nescio.data.benchmarks import BENCHMARKS

    is_benchmark = what not in _OF_THE_PAPER
    if is_benchmark and what not in BENCHMARKS:
        raise NescioError(f"{what}: nothing to reproduce; known here: {', '.join((*_OF_THE_PAPER, *BENCHMARKS))}")
    if not is_benchmark and (data or quick or method):
        raise NescioError(f"{what}: --data, --quick and --method belong to {', '.join(BENCHMARKS)}")
    quiet_libraries()
    from rich.console import Console

    from nescio.pipeline.progress import Terminal

    with as_file(files("nescio") / "recipes") as packaged:
        if is_benchmark:
            from nescio.reproduction.benchmarks.compare import Comparison
            from nescio.reproduction.benchmarks.size import FULL, QUICK

            size, folder = QUICK if quick else FULL, out or Path("runs") / what
            common, reporter = recipe or packaged / "benchmark.yaml", Terminal(Console(stderr=True))
            comparison = Comparison(
                what, common, set_ or [], data, folder, size=size, methods=method or [], reporter=reporter
            )
            print(comparison.make())
        else:
            from nescio.reproduction.make import make

            print(make(what, recipe or packaged / "reproduce.yaml", set_ or [], out or Path("runs/reproduce")))
