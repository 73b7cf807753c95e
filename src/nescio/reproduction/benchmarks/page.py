"""A comparison's table, figure and result file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nescio.core.files import atomic_write, write_json, write_text
from nescio.report.style import PALETTE, new_figure, safe_label, styled
from nescio.report.table import MISSING, aligned
from nescio.reproduction.benchmarks.methods import METHODS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
GOLD = ("tuned", "retrained")
"""Rows that are no methods: the model that has learned everything, and the one that never saw the forget half."""


def write(result: dict[str, Any], out: Path) -> str:
    """Write `result.json`, `table.md` and `tradeoff.svg` and `.png`.

    Returns:
        The table as Markdown.
    """
    text = table(result)
    write_json(out / "result.json", result)
    write_text(out / "table.md", text + "\n")
    for kind in ("svg", "png"):
        draw(result, out / f"tradeoff.{kind}")
    return text


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the figure of a comparison, an SVG or a PNG by its name."""
    figure = tradeoff(result["rows"])
    with atomic_write(path) as unfinished, styled():
        figure.savefig(unfinished, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def table(result: dict[str, Any]) -> str:
    """Return the comparison as Markdown: who does better, then leak and usefulness, then the published metrics."""
    rows = result["rows"]
    return "\n\n".join([_said(result), _ours(rows, result["seeds"]), _published(rows)])


def front(rows: Sequence[Row]) -> list[str]:
    """Return the methods that no other beats, in leak at no less usefulness or in usefulness at no more leak."""
    own = [row for row in rows if row["method"] not in GOLD]
    return [row["method"] for row in own if not any(_beats(other, row) for other in own)]


def better(rows: Sequence[Row], name: str) -> list[str]:
    """Return the methods that beat one: in leak or in usefulness, and are worse in neither."""
    found = [row for row in rows if row["method"] == name]
    own = [row for row in rows if row["method"] not in (*GOLD, name)]
    return [row["method"] for row in own for one in found if _beats(row, one)]


def _beats(one: Row, other: Row) -> bool:
    at_least = one["leak"] <= other["leak"] and one["usefulness"] >= other["usefulness"]
    return bool(at_least and (one["leak"] < other["leak"] or one["usefulness"] > other["usefulness"]))


def _said(result: dict[str, Any]) -> str:
    rows, forget, outside = result["rows"], result["measured"]["forget"], result["measured"]["outside"]
    said = [
        f"{result['benchmark']}, {result['base']}: {forget['questions']} questions about {forget['people']} people or "
        f"documents to forget, {outside['people']} set aside, {result['words']} plain questions in words, "
        f"{result['seeds']} seed{'s' if result['seeds'] > 1 else ''}."
    ]
    if any(row["method"] == "nescio" for row in rows):
        ahead = better(rows, "nescio")
        said.append(
            f"Better than nescio in leak or usefulness, and worse in neither: {', '.join(ahead)}."
            if ahead
            else "No method is better than nescio in leak or usefulness and worse in neither."
        )
    said.append(f"Not beaten by any other: {', '.join(front(rows))}.")
    if result["diverged"]:
        # A list of names alone is of an older version: there every rate had diverged.
        why = result["diverged"] if isinstance(result["diverged"], dict) else {}
        said += [f"Left out: {name} ({why.get(name, 'every rate diverged')})." for name in result["diverged"]]
    asked = {*result["diverged"], *(row["method"] for row in rows)}
    if missing := [name for name in METHODS if name not in asked]:
        said.append(f"Not compared: {', '.join(missing)}.")
    if result["quick"]:
        said.append("One setting and one seed: the order of the methods says little.")
    return " ".join(said)


def _ours(rows: Sequence[Row], seeds: int) -> str:
    shares = {
        "asked for": "leak_asked_for", "otherwise": "leak_otherwise", "turned round": "leak_inverse",
        "leak of draws": "leak_drawn", "usefulness": "usefulness", "retain ROUGE-L": "rouge_retain", "loops": "loops",
    }  # fmt: skip
    shown = _measured(shares, rows)
    of_seeds = ["leak of each seed"] if seeds > 1 else []
    header = ["method", "retain half", "leak [95 %]", *of_seeds, *shown, "words [95 %]", "rate", "epoch"]
    lines = [
        [
            row["method"], _seen(row), _share(row["leak"], row["leak_ci95"]),
            *([", ".join(map(_percent, row["leak_seeds"]))] if of_seeds else []),
            *(_percent(row[key]) for key in shown.values()),
            _share(row["words"], row["words_ci95"]),
            *(f"{row['setting'][key]:g}" if "setting" in row else MISSING for key in ("learning_rate", "epoch")),
        ]
        for row in rows
    ]  # fmt: skip
    return aligned([header, *lines], left=2)


def _measured(columns: dict[str, str], rows: Sequence[Row]) -> dict[str, str]:
    """Return the columns that some row has a value in."""
    return {header: key for header, key in columns.items() if any(row[key] is not None for row in rows)}


def _published(rows: Sequence[Row]) -> str:
    quality = f"forget quality, p (n = {rows[0]['forget_quality_n']:g})"
    columns = {
        "forget ROUGE-L": "rouge_forget", "outside ROUGE-L": "rouge_outside", "forget exact": "exact_forget",
        "retain exact": "exact_retain", "extraction strength": "extraction_strength", "MIA, loss": "mia_loss",
        "MIA, Min-20 %": "mia_min_k", "truth ratio": "truth_ratio", quality: "forget_quality",
        "model utility": "model_utility", "task aggregate": "task_aggregate", "SemEval's score": "semeval",
    }  # fmt: skip
    shown = _measured(columns, rows)
    lines = [[row["method"], *(_number(row[key]) for key in shown.values())] for row in rows]
    return aligned([["method", *shown], *lines], left=1)


def tradeoff(rows: Sequence[Row]) -> "Figure":
    """Draw leak against usefulness: methods without and with the retain half, the two models, and the front."""
    with styled():
        figure = new_figure(6.4, 4.2)
        axes = figure.add_subplot()
        kinds: dict[str, tuple[str, str, list[Row]]] = {
            "without a retain half": ("o", PALETTE["one"], [row for row in rows if row.get("retain") is False]),
            "with the retain half": ("s", PALETTE["two"], [row for row in rows if row.get("retain")]),
            "tuned; trained without the forget half": (
                "*",
                PALETTE["ink"],
                [row for row in rows if row["method"] in GOLD],
            ),
        }
        for label, (marker, color, own) in kinds.items():
            x, y = ([row[key] for row in own] for key in ("usefulness", "leak"))
            axes.scatter(x, y, marker=marker, color=color, label=label)
        ahead = sorted((row for row in rows if row["method"] in front(rows)), key=lambda row: float(row["usefulness"]))
        axes.plot(
            [row["usefulness"] for row in ahead], [row["leak"] for row in ahead], "--", color=PALETTE["grid"], zorder=0
        )
        axes.set(xlabel="usefulness: what is left of words and of the retain half", ylabel="share of values given away")
        axes.set_ylim(bottom=-0.02)
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=3)
        figure.draw_without_rendering()  # so that places are known
        written = list[Any]()
        for row in rows:
            written.append(_named(axes, row, written))
        return figure


def _named(axes: Any, row: Row, written: Sequence[Any]) -> Any:
    """Write a method's name beside its point, where none stands yet; return its place."""
    for x, y in ((4, 3), (-4, 3), (4, -3), (-4, -3)):
        text = axes.annotate(
            safe_label(row["method"]), (row["usefulness"], row["leak"]), xytext=(x, y), textcoords="offset points",
            fontsize=6.5, ha="left" if x > 0 else "right", va="bottom" if y > 0 else "top",
        )  # fmt: skip
        place = text.get_window_extent()
        if not any(place.overlaps(other) for other in written) or (x, y) == (-4, -3):
            break
        text.remove()
    return place


def _seen(row: Row) -> str:
    return MISSING if row["method"] in GOLD else "yes" if row["retain"] else "no"


def _share(value: float, bounds: Sequence[float]) -> str:
    return f"{value:.0%} [{bounds[0]:.0%}, {bounds[1]:.0%}]".replace("%", " %")


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0%}".replace("%", " %")


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.2f}"
