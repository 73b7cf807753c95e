"""`nescio subtract`: task arithmetic on the weights of two models."""

from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError


def subtract(
    base: Annotated[str, typer.Option(help="Base model: folder, hub id, or smollm2.")],
    tuned: Annotated[str, typer.Option(help="Fine-tuned model: folder, hub id, or PEFT LoRA adapter.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write. It must not exist.")] = None,
    coefficient: Annotated[
        float | None,
        typer.Option(help="Share of the fine-tuning that is subtracted. The default, 0.5, is the paper's."),
    ] = None,
    relu: Annotated[bool, typer.Option("--relu", help="Subtract only what the fine-tuning increased.")] = False,
    include: Annotated[list[str] | None, typer.Option(help="Only tensors that match this pattern. Repeatable.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out tensors that match this pattern. Repeatable.")
    ] = None,
    as_adapter: Annotated[bool, typer.Option("--as-adapter", help="Write a PEFT adapter instead of a model.")] = False,
    rank: Annotated[
        int | None, typer.Option(help="Write the nearest adapter of this rank; implies --as-adapter.")
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="Coefficients to compare, as 0.25,0.5,1. Writes no model.")] = None,
    plot: Annotated[Path | None, typer.Option(help="With --sweep: SVG file to write, or else sweep.svg.")] = None,
    detector: Annotated[str | None, typer.Option(help="With --sweep: detector of personal data.")] = None,
) -> None:
    """Subtract a fine-tuning from its base model: base - c (tuned - base) for each tensor (paper, section 2.1)."""
    from nescio.pipeline import subtraction

    quiet_libraries()
    if (out is None) == (sweep is None):
        raise NescioError("subtract: give either --out DIR or --sweep C,C,...; one of the two")
    of_model = {"--coefficient": coefficient, "--rank": rank, "--as-adapter": as_adapter or None}
    of_sweep = {"--plot": plot, "--detector": detector}
    form, others = ("--out", of_sweep) if sweep is None else ("--sweep", of_model)
    if given := [option for option, value in others.items() if value is not None]:
        raise NescioError(f"subtract: {given[0]} does nothing with {form}; leave it out")
    if sweep is not None:
        chosen = (detector or "default", plot or Path("sweep.svg"))
        subtraction.show_sweep(base, tuned, sweep, relu, include or (), exclude or (), *chosen)
    elif out is not None:
        coefficient = 0.5 if coefficient is None else coefficient
        options = {"relu": relu, "include": include or (), "exclude": exclude or (), "as_adapter": as_adapter}
        subtraction.write(base, tuned, out, coefficient=coefficient, rank=rank, **options)
