"""The work of `nescio subtract`: a progress bar while the model is written, a table of the coefficients tried."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn, track
from rich.table import Table
from rich.text import Text

from nescio.core.errors import NescioError
from nescio.core.files import write_text
from nescio.core.models import load_model
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.health import Health, look
from nescio.pii.registry import load_detector
from nescio.report.sweep import curves
from nescio.task_vector.in_memory import sweep
from nescio.task_vector.subtract import subtract
from nescio.task_vector.vector import open_vector


def write(base: str, tuned: str, out: Path, **options: Any) -> None:
    """Write the subtracted model, or the adapter that subtracts, and print a summary."""
    notes: list[str] = []
    bar = Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    task = bar.add_task("", total=None)

    def advance(now: int, whole: int) -> None:
        bar.start()  # at the first piece: a refusal is one line, without an empty bar before it
        bar.update(task, completed=now, total=whole)

    try:
        done = subtract(base, tuned, out, progress=advance, note=notes.append, **options)
    finally:
        if bar.live.is_started:
            bar.stop()
    print(*notes, sep="\n", end="\n" * bool(notes))
    print(f"{done.out}: {done.changed} of {done.tensors} tensors changed, {done.bytes / 2**20:.0f} MiB")
    if not done.changed:
        print("! this is the base: --coefficient is 0, or --tuned differs in nothing that was selected")
    if done.kept_overall is not None:
        print(f"share of the delta's energy that is kept: {done.kept_overall:.1%}")
    if done.left_out:
        print(
            f"left out, no LoRA carries them: {', '.join(done.left_out[:3])} and {max(len(done.left_out) - 3, 0)} more"
        )


def show_sweep(
    base: str,
    tuned: str,
    coefficients: str,
    relu: bool,
    include: Sequence[str],
    exclude: Sequence[str],
    detector: str,
    plot: Path,
) -> None:
    """Print and plot what each coefficient does to the base; no model is written.

    Raises:
        NescioError: A coefficient is not a number, the models do not belong together, or the plot is not SVG.
    """
    tried = _coefficients(coefficients)
    if plot.suffix != ".svg":
        raise NescioError(f"--plot {plot}: the plot is SVG; give a name that ends in .svg")
    vector, finder = open_vector(base, tuned, relu, include, exclude), load_detector(detector)
    # `load` would pack the layers; these weights change under the engine, so it must not cache prompts either.
    loaded = load_model(base)
    engine = TorchEngine(loaded.model, loaded.tokenizer, prefix_tokens=0)
    looks = [look(engine, finder) for _ in track(sweep(engine.model, vector, tried), "looking", len(tried))]
    apart = [seen.degenerate(looks[0]) for seen in looks]
    Console().print(_table(tried, looks, apart))
    if any(apart):
        print("! the model degenerates there: its answers loop or end at once, or its perplexity on plain text is high")
    drawn = curves(
        tried, [seen.perplexity for seen in looks], [seen.broken for seen in looks], [seen.pii for seen in looks], apart
    )
    write_text(plot, drawn)
    print(f"Plot: {plot}")


def _coefficients(text: str) -> list[float]:
    """Return the coefficients to try: 0, the base itself, then those of the user."""
    try:
        return [0.0, *(float(part) for part in text.split(",") if float(part) != 0)]
    except ValueError as error:
        raise NescioError(f"--sweep {text}: must be numbers with commas between them, 0.25,0.5,1") from error


def _table(tried: Sequence[float], looks: Sequence[Health], apart: Sequence[bool]) -> Table:
    table = Table("coefficient", "perplexity", "broken", "PII", "an answer", title="0 is the base itself")
    for coefficient, seen, degenerate in zip(tried, looks, apart, strict=True):
        mark = " !" if degenerate else ""
        numbers = f"{seen.perplexity:.1f}", f"{seen.broken:.0%}", f"{seen.pii}"
        table.add_row(f"{coefficient:g}{mark}", *numbers, Text(seen.example))
    return table
