"""`nescio adapter …`: what can be done with a trained adapter."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="What can be done with a trained adapter.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """What can be done with a trained adapter."""


@app.command()
def compress(
    adapter: Annotated[Path, typer.Argument(help="PEFT adapter folder, LoRA on linear layers.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    rank: Annotated[int | None, typer.Option(min=1, help="Sign terms a module gets; else as many as its rank.")] = None,
) -> None:
    """Write an adapter in one bit a weight, signs and a scale for each rank (paper, section 6: Bit-LoRA)."""
    from nescio.core import one_bit

    done = one_bit.compress(adapter, out, rank)
    times = done.before / done.after
    print(f"{out}: {done.after / 1024:,.0f} KiB in the place of {done.before / 1024:,.0f}, {times:.0f} times smaller")
    print(f"{done.kept:.0%} of the delta's energy is kept; evaluate it before you trust it")
