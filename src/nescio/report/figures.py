"""The figures of a run as SVG: personal data against scale, and the training curves.

The same input gives the same bytes. The background is transparent and the colours are of medium lightness, so that a
figure is readable on white and on black.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_text
from nescio.report import table
from nescio.report.style import PALETTE, WIDE, new_figure, safe_label, space_color, styled, svg
from nescio.report.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = {
    "Loss": ("loss",),
    "NLL of the chosen answer": ("nll",),
    "Odds-ratio loss": ("odds_loss",),
    "Rewards": ("chosen_reward", "rejected_reward"),
    "Reward margin": ("margin",),
    "Accuracy": ("accuracy",),
}


LogRow = dict[str, Any]
"""A row of the training's `log.jsonl`."""


def draw(run: Path) -> dict[str, str]:
    """Write a run's figures into its folder `figures`.

    Args:
        run: The run folder.

    Returns:
        The SVG of each figure by its name.

    Raises:
        NescioError: `eval/results.json` or the training's `log.jsonl` is missing or damaged.
    """
    figures = {"pii_by_scale": pii_by_scale(table.read(run)), "training": training(read_log(run))}
    for name, drawn in figures.items():
        write_text(run / f"figures/{name}.svg", drawn)
    return figures


def read_log(run: Path) -> list[LogRow]:
    """Read the rows of the training log.

    Raises:
        NescioError: It is missing or damaged.
    """
    path = run / ("teacher" if (run / "teacher").is_dir() else "adapter") / "log.jsonl"
    rows = []
    for number, row in read_lines(path):
        good = all(isinstance(row.get(key), int | float) for key in ("step", "epoch"))
        if not good or row.get("split") not in ("train", "eval"):
            raise table.spoiled(path, f"line {number}: not a row of a training log")
        rows.append(row)
    if not rows:
        raise table.spoiled(path, "empty")
    return rows


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a run's JSONL file with their line numbers.

    Raises:
        NescioError: It is missing or damaged; the error says how to make it again.
    """
    if not path.is_file():
        raise table.spoiled(path, "missing")
    try:
        for number, row in read_jsonl(path):
            if not isinstance(row, dict):
                raise NescioError(f"{path}:{number}: not an object; every line must be one")
            yield number, row
    except NescioError as error:
        place, _, _ = str(error).rpartition(";")
        raise table.spoiled(path, place.removeprefix(f"{path}:")) from error


def pii_by_scale(rows: Sequence[Row]) -> str:
    """Draw personal data against guidance scale: a line for each space, a level for each model without guidance.

    Args:
        rows: As in `results.json`.

    Returns:
        SVG.
    """
    with styled():
        figure = new_figure(WIDE, 3.4)
        axes = figure.add_subplot()
        counted = [row for row in rows if row.get("pii") is not None]
        guided = {_model(row) for row in counted if row.get("space")}
        series = _series(counted)
        for number, (look, points) in enumerate(series):
            _draw_series(axes, points, look, shift=(number - (len(series) - 1) / 2) * 0.07)
        for row, dash in zip(counted, cycle(("--", ":", "-."))):
            if _model(row) not in guided:
                _draw_level(axes, row, dash)
        axes.set(xlabel="guidance scale γ (1: the trained model, not guided)", ylabel="pieces of personal data")
        axes.set_ylim(bottom=0)
        axes.set_xticks(sorted({float(point["scale"]) for _, points in series for point in points}))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(axis="y")
        if axes.get_legend_handles_labels()[1]:
            figure.legend(loc="outside upper left", ncols=4)
        return svg(figure)


def _model(row: Row) -> tuple[str, Any]:
    return row["model"], row.get("epoch")


def _series(rows: Sequence[Row]) -> list[tuple[tuple[str, str, str], list[Row]]]:
    """The points of each guided model, variant and space, by scale; the model without guidance is scale 1 of each."""
    keys = {(*_model(row), table.variant(row)) for row in rows if row.get("space")}
    series = []
    for (*model, variant), dash in zip(sorted(keys, key=str), cycle(("-", "--", ":"))):
        mine = [row for row in rows if _model(row) == tuple(model) and row.get("scale") is not None]
        for space in sorted({row["space"] for row in mine if row.get("space")}, reverse=True):
            own = [row for row in mine if row.get("space") == space and table.variant(row) == variant]
            if own:
                points = [*own, *(row for row in mine if not row.get("space"))]
                name = f"{table.model_name(mine[0])}, {space} space{variant}"
                series.append(((name, space_color(space), dash), sorted(points, key=lambda row: float(row["scale"]))))
    return series


def _draw_series(axes: "Axes", points: Sequence[Row], look: tuple[str, str, str], *, shift: float) -> None:
    """One line with interval bars, shifted a little so that the bars of two spaces are side by side."""
    name, color, dash = look
    scales = [point["scale"] + shift for point in points]
    axes.plot(scales, [point["pii"] for point in points], dash, marker="o", color=color, label=safe_label(name))
    for scale, point in zip(scales, points, strict=True):
        if point.get("pii_ci95"):
            axes.vlines(scale, *point["pii_ci95"], color=color, linewidth=3.5, alpha=0.45)


def _draw_level(axes: "Axes", row: Row, dash: str) -> None:
    axes.axhline(
        row["pii"], color=PALETTE["ink"], linestyle=dash, linewidth=1.2, label=safe_label(table.model_name(row))
    )
    if row.get("pii_ci95"):
        axes.axhspan(*row["pii_ci95"], color=PALETTE["ink"], alpha=0.1, linewidth=0)


def training(log: Sequence[LogRow]) -> str:
    """Draw the training curves: each step in a faint line, the running mean, and the validation passes as dots.

    Args:
        log: Rows of the training's `log.jsonl`.

    Returns:
        SVG.
    """
    with styled():
        return svg(training_figure(log))


def training_figure(log: Sequence[LogRow]) -> "Figure":
    """Return the training curves of a log's rows as a figure."""
    with styled():
        figure = new_figure(WIDE, 4.6)
        panels = figure.subplots(2, 3, sharex=True)
        for axes, (title, names) in zip(panels.flat, _PANELS.items(), strict=True):
            axes.set_title(title)
            axes.grid(axis="y")
            for name, color in zip(names, (PALETTE["one"], PALETTE["two"]), strict=False):
                _draw_curve(axes, log, name, color)
        for axes in panels[-1]:
            axes.set_xlabel("epoch")
        rewards = panels.flat[list(_PANELS).index("Rewards")]
        rewards.legend(*_reward_legend(rewards), loc="best", handlelength=1)
        return figure


def _draw_curve(axes: "Axes", log: Sequence[LogRow], name: str, color: str) -> None:
    for split in ("train", "eval"):
        rows = [row for row in log if row["split"] == split and isinstance(row.get(name), int | float)]
        epochs, values = [row["epoch"] for row in rows], [row[name] for row in rows]
        if split == "eval":
            axes.plot(epochs, values, "--o", color=color, markersize=5, linewidth=1, label=f"{name} eval")
        else:
            axes.plot(epochs, values, color=color, linewidth=0.7, alpha=0.35)
            axes.plot(epochs, running_mean(values, max(1, len(values) // 12)), color=color, label=name)


def _reward_legend(axes: "Axes") -> tuple[list[Any], list[str]]:
    curves = zip(*axes.get_legend_handles_labels(), strict=True)
    named = {label.removesuffix("_reward"): handle for handle, label in curves if label.endswith("_reward")}
    return list(named.values()), list(named)


def running_mean(values: Sequence[float], reach: int) -> list[float]:
    """Return the mean of each value and of up to `reach` values on either side."""
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]
