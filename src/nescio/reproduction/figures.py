"""The paper's figures again, as SVG and PNG: the two guidance functions (1, 2) and the training curves (3, 4)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nescio.core.files import atomic_write
from nescio.report.figures import read_log, training_figure
from nescio.report.style import new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FINEST = 1e-3  # the smallest probability drawn; log x - log y has no bound at 0


def draw(run: Path, out: Path) -> list[Path]:
    """Write Figures 1 to 4.

    Args:
        run: The run of Model-ch-lora-cfg, whose training is shown.
        out: Folder for `figure1.svg`, `figure1.png` and so on.

    Raises:
        NescioError: The run has no training log.
    """
    log = read_log(run)
    figures = {
        "figure1": definition_area("log x - log y", np.log),
        "figure2": definition_area("x - y", lambda p: p),
        "figure3": training_figure([row for row in log if row["split"] == "train"]),
        "figure4": training_figure([row for row in log if row["split"] == "eval"]),
    }
    return [_save(figure, out / f"{name}.{kind}") for name, figure in figures.items() for kind in ("svg", "png")]


def definition_area(name: str, of: Any) -> "Figure":
    """Draw z = f(x) - f(y), which guidance multiplies, for probabilities x (positive) and y (negative branch).

    Args:
        name: Name of the function.
        of: f, on arrays.
    """
    axis = np.linspace(_FINEST, 1, 60)
    x, y = np.meshgrid(axis, axis)
    figure = new_figure(4.6, 3.6)
    axes: Any = figure.add_subplot(projection="3d")
    axes.plot_surface(x, y, of(x) - of(y), cmap="viridis", linewidth=0)
    axes.set(xlabel="x: positive branch", ylabel="y: negative branch", zlabel="z", title=f"z = {name}")
    return figure


def _save(figure: "Figure", path: Path) -> Path:
    with atomic_write(path) as unfinished, styled():
        figure.savefig(unfinished, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path
