"""The rows of `results.json` as a table in Markdown, and how each value is printed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nescio.core.guidance import variant_words
from nescio.evaluation.columns import Column, Kind, Place, columns
from nescio.report.results_file import OUTCOME, Row, read, read_rows, spoiled

__all__ = [
    "MISSING", "OUTCOME", "Row", "aligned", "cell", "count", "described", "guidance", "header", "interval",
    "is_unusable", "judge", "markdown", "measured", "measured_columns", "model_name", "percent", "pieces", "read",
    "read_rows", "share_interval", "spoiled", "trust", "variant",
]  # fmt: skip

MISSING = "–"


def measured_columns(rows: Sequence[Row], *places: Place) -> list[Column]:
    """Return the columns of these places that some row has a value for."""
    return [column for column in columns(*places) if any(row.get(column.key) is not None for row in rows)]


def header(column: Column, rows: Sequence[Row]) -> str:
    """Return a column's heading; a judge that cannot be trusted makes its column unusable."""
    return f"{column.header} unusable" if is_unusable(column, rows) else column.header


def is_unusable(column: Column, rows: Sequence[Row]) -> bool:
    """Whether a column holds the verdicts of a judge that is wrong too often."""
    row = judge(rows)
    return column.key == "judged" and row is not None and not row.get("judge_usable")


def cell(row: Row, column: Column) -> str:
    """Return a row's value in a column, with its interval where there is one; a dash where it was not measured."""
    value = row.get(column.key)
    if value is None:
        return MISSING
    ends = interval(row, column.key) if column.kind == "count" else share_interval(row.get(f"{column.key}_ci95"))
    return " ".join(filter(None, (_FORMATS[column.kind](value), ends)))


def markdown(rows: Sequence[Row]) -> str:
    """Return a Markdown table, padded so that it reads in a terminal as well; the best row is starred.

    Args:
        rows: As in `results.json`.
    """
    shown = [*columns("main"), *measured_columns(rows, "main_if_measured", "summary")]
    lines = [[_starred(row), guidance(row) or "none", *(cell(row, column) for column in shown)] for row in rows]
    return aligned([["model", "guidance", *(header(column, rows) for column in shown)], *lines], left=2)


def _starred(row: Row) -> str:
    return ("★ " if row.get("best") else "") + model_name(row)


def judge(rows: Sequence[Row]) -> Row | None:
    """Return the row that tells about the judge, or None where nothing was judged."""
    return next((row for row in rows if row.get("judge") and row.get("judge_accuracy") is not None), None)


def trust(row: Row) -> str:
    """Say how far the judge can be trusted.

    Args:
        row: A row that was judged.
    """
    unusable = "" if row.get("judge_usable") else "; below 80 %, so its column is unusable"
    right = percent(row["judge_accuracy"])
    return f"Judge: {row['judge']}, right about {right} of right and wrong answers made from the key{unusable}."


def aligned(cells: Sequence[Sequence[str]], left: int) -> str:
    """Return cells as a Markdown table, padded.

    Args:
        cells: Lines of cells, the headings first. White space and `|` in them are made safe.
        left: Number of columns that hold text and are aligned to the left; the others hold numbers.
    """
    safe = [[" ".join(text.split()).replace("|", "\\|") for text in line] for line in cells]
    widths = [max(len(line[column]) for line in safe) for column in range(len(safe[0]))]
    rule = [width * "-" if column < left else (width - 1) * "-" + ":" for column, width in enumerate(widths)]
    lines = [
        [
            text.ljust(width) if column < left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (safe[0], rule, *safe[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def model_name(row: Mapping[str, Any]) -> str:
    """Return the model of a row, with its epoch where there is one."""
    epoch = row.get("epoch")
    return str(row["model"]) if epoch is None else f"{row['model']}, epoch {epoch:g}"


def guidance(row: Mapping[str, Any]) -> str:
    """Return `log × 2`; empty for a row without guidance."""
    scale = 1 if row.get("scale") is None else row["scale"]  # 0 is the negative branch alone
    return f"{row['space']} × {scale:g}{variant(row)}" if row.get("space") else ""


def variant(row: Mapping[str, Any]) -> str:
    """Return the guidance's other settings, `, plausible 0.1`; empty for plain guidance."""
    return "".join(f", {word}" for word in variant_words(row))


def described(row: Mapping[str, Any]) -> str:
    """Return model and guidance in a few words: `trained, prob × 3`."""
    return ", ".join(filter(None, (model_name(row), guidance(row) or "unguided")))


def pieces(row: Mapping[str, Any]) -> str:
    """Return the personal data of a row with its interval: `4 [1, 8]`, and how much the detector missed of it."""
    said, told = " ".join(filter(None, (count(row.get("pii")), interval(row)))), row.get("given_away")
    missed = 0 if told is None or row.get("pii") is None else told - row["pii"]
    return f"{said} and {missed} that the detector misses" if missed > 0 else said


def interval(row: Mapping[str, Any], key: str = "pii") -> str:
    """Return the interval of a count, `[3, 12]`, or nothing."""
    bounds = row.get(f"{key}_ci95")
    return f"[{count(bounds[0])}, {count(bounds[1])}]" if bounds else ""


def measured(row: Mapping[str, Any], key: str) -> str:
    """Return a share with its interval: `67 % [54, 77]`."""
    return " ".join(filter(None, (percent(row.get(key)), share_interval(row.get(f"{key}_ci95")))))


def share_interval(bounds: Sequence[float] | None) -> str:
    """Return `[41, 67]`, in percent, or nothing."""
    return f"[{round(100 * bounds[0])}, {round(100 * bounds[1])}]" if bounds else ""


def count(value: float | None) -> str:
    """Return a whole number."""
    return MISSING if value is None else f"{value:.0f}"


def percent(value: float | None) -> str:
    """Return a share as a percentage without decimals."""
    return MISSING if value is None else f"{100 * value:.0f} %"


_FORMATS: dict[Kind, Callable[[Any], str]] = {
    "share": percent,
    "count": count,
    "number": lambda value: f"{value:.2f}",
    "decimal": lambda value: f"{value:.1f}",
    "interval": share_interval,
    "p": lambda value: f"{value:.3f}" if value >= 0.001 else "< 0.001",
    "milliseconds": lambda value: f"{1000 * value:.1f}",
}
