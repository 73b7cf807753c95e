"""The subtract command: a bar while the model is written, a table of what each coefficient does. Joins the rooms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from nescio.engines.torch import load
from nescio.errors import NescioError
from nescio.health import look
from nescio.pii.detector import load_detector
from nescio.task_vector.in_memory import sweep
from nescio.task_vector.subtract import subtract
from nescio.task_vector.vector import open_vector


def write(base: str, tuned: str, out: Path, **options: Any) -> None:
    """Write the subtracted model, or the adapter that subtracts, and say what was done."""
    with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=None)
        done = subtract(
            base, tuned, out, progress=lambda now, all_: bar.update(task, completed=now, total=all_), **options
        )
    print(f"{done.out}: {done.changed} of {done.tensors} tensors changed, {done.bytes / 2**20:.0f} MiB")
    if done.kept_overall is not None:
        print(f"share of the delta's energy that is kept: {done.kept_overall:.1%}")
    if done.left_out:
        print(
            f"left out, no LoRA carries them: {', '.join(done.left_out[:3])} and {max(len(done.left_out) - 3, 0)} more"
        )


def show_sweep(
    base: str, tuned: str, coefficients: str, relu: bool, include: Sequence[str], exclude: Sequence[str], detector: str
) -> None:
    """Print what each coefficient does to the base; nothing is written.

    Raises:
        NescioError: A coefficient is no number, or the two models do not belong together.
    """
    try:
        tried = [0.0, *(float(part) for part in coefficients.split(","))]
    except ValueError as error:
        raise NescioError(f"--sweep {coefficients}: must be numbers with commas between them, 0.25,0.5,1") from error
    vector, finder = open_vector(base, tuned, relu, include, exclude), load_detector(detector)
    engine = load(base)
    table = Table("coefficient", "perplexity", "broken", "PII", "an answer", title="0 is the base itself")
    looks = []
    for coefficient in sweep(engine.model, vector, tried):
        seen = look(engine, finder)
        looks.append(seen)
        mark = " !" if seen.degenerate(looks[0]) else ""
        table.add_row(
            f"{coefficient:g}{mark}", f"{seen.perplexity:.1f}", f"{seen.broken:.0%}", f"{seen.pii}", seen.example
        )
    console = Console()
    console.print(table)
    if any(seen.degenerate(looks[0]) for seen in looks):
        console.print("! the model comes apart there: its answers loop or end at once, or plain text surprises it")
