"""How every figure looks, and how it becomes SVG."""

import io
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from nescio.core.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = {"ink": "#767b85", "grid": "#8a8f99", "one": "#3f83c4", "two": "#c7702c", "three": "#2f9475"}
"""Names and colours; the page gives the names other values in dark mode."""
WIDE = 8.6
"""Width in inches of a figure that takes the full width of the report."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nescio",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.35,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), PALETTE["ink"]),
    "grid.color": PALETTE["grid"],
}
"""For `matplotlib.rc_context`: transparent background, medium colours, text that stays text."""


def space_color(space: str | None) -> str:
    """The colour of rows guided in a space; None: of rows that are not guided."""
    if space is None:
        return PALETTE["ink"]
    return {"prob": PALETTE["one"], "log": PALETTE["two"]}.get(space, PALETTE["three"])


def safe_label(text: str) -> str:
    """Make a text safe as a label: SVG has no control characters, and Matplotlib hides labels that begin with `_`."""
    safe = "".join(character if character.isprintable() else "�" for character in text)
    return f" {safe}" if safe.startswith("_") else safe


def styled() -> AbstractContextManager[None]:
    """Draw and save figures in `STYLE` inside a `with` block.

    Raises:
        NescioError: Matplotlib is not installed.
    """
    context: AbstractContextManager[None] = require("matplotlib", "figures", "figures").rc_context(STYLE)
    return context


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a width and a height in inches."""
    figure: Figure = require("matplotlib.figure", "figures", "figures").Figure((width, height), layout="constrained")
    return figure


def svg(figure: "Figure") -> str:
    """Return the figure as SVG; the same figure gives the same bytes."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return buffer.getvalue()
