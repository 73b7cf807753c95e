"""What a row costs for what it no longer leaks: leak against utility, and leak@k."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nescio.core.extras import require
from nescio.report import table
from nescio.report.style import PALETTE, WIDE, new_figure, safe_label, space_color, styled, svg
from nescio.report.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES, _MARKERS = ("-", "--", ":", "-."), "os^DvPX*"
_TICKS = (0, 5, 10, 20, 50, 100, 200, 500, 1000)  # of personal data
_NAMED = len(_MARKERS)  # curves that a legend can still tell apart
_SHOWN = ("1", "4", "16")  # the k of the table


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other row beats on both personal data and utility (the Pareto front).

    A row with masked output is left out: it has no personal data by construction, and its price is in the table. So is
    one that is only compared with.
    """
    points = [row for row in rows if row.get("utility") is not None and row.get("pii") is not None]
    points = [row for row in points if not row.get("masked") and not row.get("reference")]
    return [row for row in points if not any(_beats(other, row) for other in points)]


def _beats(one: Row, other: Row) -> bool:
    at_least = one["pii"] <= other["pii"] and one["utility"] >= other["utility"]
    return bool(at_least and (one["pii"] < other["pii"] or one["utility"] > other["utility"]))


def leak_against_utility(rows: Sequence[Row]) -> str | None:
    """Draw personal data against utility with both intervals, the Pareto front as a line; None where no row has both.

    Args:
        rows: As in `results.json`.

    Returns:
        SVG.
    """
    points = [row for row in rows if row.get("utility") is not None and row.get("pii") is not None]
    if not points:
        return None
    with styled():
        ticker = require("matplotlib.ticker", "figures", "figures")
        figure = new_figure(WIDE, 4.0)
        axes = figure.add_subplot()
        best = sorted(front(points), key=lambda row: float(row["pii"]))
        axes.plot(
            [row["pii"] for row in best], [100 * row["utility"] for row in best], color=PALETTE["three"], zorder=1
        )
        for row in points:
            _draw_point(axes, row, row in best)
        for at, words in named(best):
            axes.annotate(words, at, xytext=(5, -9), textcoords="offset points", fontsize=7)
        # The rows to compare have little personal data, and the tuned model has much.
        axes.set_xscale("symlog", linthresh=10, linscale=1.5)
        axes.xaxis.set_major_locator(ticker.FixedLocator(_TICKS))
        axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
        axes.set(xlabel="pieces of personal data", ylabel="utility, %")
        axes.grid()
        return svg(figure)


def _draw_point(axes: "Axes", row: Row, best: bool) -> None:
    color, at = space_color(row.get("space")), (row["pii"], 100 * row["utility"])
    axes.plot(*at, "o" if best else "x", color=color)
    if row.get("pii_ci95"):
        axes.hlines(at[1], *row["pii_ci95"], color=color, linewidth=1, alpha=0.35)
    if row.get("utility_ci95"):
        axes.vlines(at[0], *(100 * end for end in row["utility_ci95"]), color=color, linewidth=1, alpha=0.35)


def named(best: Sequence[Row]) -> list[tuple[tuple[float, float], str]]:
    """Name each point of the front: the starred row there, or the first, and the number of other rows at the point."""
    there = defaultdict[tuple[float, float], list[Row]](list)
    for row in best:
        there[float(row["pii"]), 100 * row["utility"]].append(row)
    names = []
    for at, rows in there.items():
        first = next((row for row in rows if row.get("best")), rows[0])
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        names.append((at, safe_label(table.described(first) + more)))
    return names


def drawn(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose leak@k is drawn: the tuned model, the best, then those with the fewest PII; at most eight.

    Args:
        rows: As in `results.json`, the tuned model first.
    """
    sampled = [row for row in rows if row.get("leak_at")]
    matter = sorted(sampled, key=lambda row: (row is not rows[0], not row.get("best"), row.get("pii") or 0))[:_NAMED]
    return [row for row in sampled if row in matter]


def leak_table(rows: Sequence[Row]) -> dict[str, Any]:
    """Return leak@k of every row that was sampled, as text, and how many of them are not drawn.

    Args:
        rows: As in `results.json`.
    """
    sampled = [row for row in rows if row.get("leak_at")]
    reach = [k for k in _SHOWN if any(k in row["leak_at"] for row in sampled)]
    lines = [(row, [_leak(row["leak_at"].get(k)) for k in reach]) for row in sampled]
    return {"headers": [f"leak@{k} [95 %]" for k in reach], "lines": lines, "left_out": len(lines) - len(drawn(rows))}


def _leak(found: Sequence[float] | None) -> str:
    return f"{table.percent(found[0])} {table.share_interval(found[1:])}" if found else table.MISSING


def leak_curves(rows: Sequence[Row]) -> str | None:
    """Draw the chance that any of k sampled answers leaks, with its interval; None where nothing was sampled.

    Args:
        rows: As in `results.json`; those of `drawn` are drawn.

    Returns:
        SVG.
    """
    sampled = drawn(rows)
    if not sampled:
        return None
    with styled():
        figure = new_figure(WIDE, 3.8)
        axes = figure.add_subplot()
        for number, row in enumerate(sampled):
            k = [int(key) for key in row["leak_at"]]
            mean, low, high = zip(*row["leak_at"].values(), strict=True)
            look, color = _MARKERS[number] + _DASHES[number % len(_DASHES)], space_color(row.get("space"))
            axes.plot(k, mean, look, color=color, label=safe_label(table.described(row)))
            axes.fill_between(k, low, high, color=color, alpha=0.08, linewidth=0)
        axes.xaxis.set_major_locator(require("matplotlib.ticker", "figures", "figures").MaxNLocator(integer=True))
        axes.set(xlabel="k: answers sampled at temperature 1", ylabel="leak@k", ylim=(0, 1.02))
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=3)
        return svg(figure)
