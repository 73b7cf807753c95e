"""`nescio adapter …`: work on trained adapters."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Work on trained adapters.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Work on trained adapters."""


@app.command()
def compress(
    adapter: Annotated[Path, typer.Argument(help="PEFT adapter folder, LoRA on linear layers.")],
    out: Annotated[Path, typer.Argument(help="Folder to write. It must not exist.")],
    rank: Annotated[int | None, typer.Option(min=1, help="Sign terms per module. Default: the module's rank.")] = None,
) -> None:
    """Compress an adapter to one bit per weight: signs, and a scale per rank (Bit-LoRA; paper, section 6)."""
    from nescio.core import one_bit

    done = one_bit.compress(adapter, out, rank)
    times = done.before / done.after
    print(f"{out}: {done.after / 1024:,.0f} KiB instead of {done.before / 1024:,.0f} KiB, {times:.0f} times smaller")
    print(f"Keeps {done.kept:.0%} of the delta's energy. Evaluate it before you rely on it.")
