"""The rows of `results.json` as a Markdown table and as one sentence. Knows rows; nothing of models or answers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.evaluation.results import knows_less, mark_best

Row = dict[str, Any]

SHARES = {"degenerate": "degenerate", "on_topic": "on-topic", "canned": "canned"}
"""The shares that decide which row may be called best, and how they are written."""
MISSING = "–"

_HEADERS = ("model", "guidance", "PII [95 %]", "leaking", "recall", *SHARES.values(), "perplexity")
_NUMBERS = (
    "epoch",
    "scale",
    "samples",
    "pii",
    "leaking",
    "recall",
    *SHARES,
    "fluency",
    "seconds",
    "utility",
    "utility_mcnemar_p",
)


def read(run: Path) -> list[Row]:
    """The rows of a run's table, checked.

    Args:
        run: The run folder.

    Raises:
        NescioError: `eval/results.json` is missing, or is not what an evaluation writes.
    """
    path = run / "eval/results.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise spoiled(path, "missing" if isinstance(error, FileNotFoundError) else "not JSON") from error
    if not isinstance(rows, list) or not rows:
        raise spoiled(path, "not a list of rows")
    for number, row in enumerate(rows, start=1):
        wrong = _wrong_field(row)
        if wrong:
            raise spoiled(path, f"row {number}: {wrong}")
    if any(row.get("best") and knows_less(row, rows[0]) for row in rows):
        mark_best(rows)  # the star is of before utility counted
    return rows


def spoiled(path: Path, what: str) -> NescioError:
    """The error for a file of a run that is missing or damaged, with the mend.

    A stage is done again when its output is gone, and the output of evaluation and training is the whole folder.
    """
    gone = path.parent if path.parent.name in ("eval", "adapter") else path
    mend = f"delete {gone} and run `nescio run` again" if gone.exists() else "run `nescio run` again"
    return NescioError(f"{path}: {what}; {mend}")


def _wrong_field(row: Any) -> str | None:
    """What keeps a row from being shown, or None."""
    if not isinstance(row, dict):
        return "not an object"
    name = row.get("name")
    if not isinstance(name, str) or not name or Path(name).name != name:
        return "name must be the name of an answers file"
    if not isinstance(row.get("model"), str):
        return "model must be a text"
    for key in (key for key in row if key.endswith("_ci95") and row[key] is not None):
        if not (isinstance(row[key], list) and len(row[key]) == 2 and all(map(_number, row[key]))):
            return f"{key} must be two numbers"
    if not _are_attacks(row.get("attack_labels")):
        return "attack_labels must hold found, slots and ci95 of each type, as `nescio evaluate` writes them now"
    wrong = [key for key in _NUMBERS if row.get(key) is not None and not _number(row[key])]
    return f"{wrong[0]} must be a number" if wrong else None


def _are_attacks(by_type: Any) -> bool:
    if not isinstance(by_type, dict):
        return by_type is None
    return all(isinstance(own, dict) and {"found", "slots", "ci95"} <= own.keys() for own in by_type.values())


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table, padded so that it reads in a terminal as well; the best row is starred.

    Args:
        rows: As in `results.json`.
    """
    more = {key: header for key, header in _measures(rows).items() if any(row.get(key) is not None for row in rows)}
    lines = [_cells(row) + tuple(measured(row, key) for key in more) for row in rows]
    return aligned([(*_HEADERS, *more.values()), *lines], left=2)


def _measures(rows: Sequence[Row]) -> dict[str, str]:
    """The columns that stand in the table only where they were measured."""
    found = judge(rows)
    unusable = "" if found is None or found["judge_usable"] else " unusable"
    return {"utility": "utility [95 %]", "judged": f"judged [95 %]{unusable}"}


def judge(rows: Sequence[Row]) -> Row | None:
    """The row that tells of the judge, or None where nothing was judged."""
    return next((row for row in rows if row.get("judge")), None)


def trust(row: Row) -> str:
    """How far the judge can be believed, as a sentence.

    Args:
        row: One that was judged.
    """
    unusable = "" if row["judge_usable"] else "; below 80 %, so its column is unusable"
    right = percent(row["judge_accuracy"])
    return f"Judge: {row['judge']}, right about {right} of right and wrong answers made from the key{unusable}."


def summary(rows: Sequence[Row]) -> str:
    """What a command prints of a table: the table, the judge if there is one, and the verdict.

    Args:
        rows: As in `results.json`.
    """
    judged = judge(rows)
    return "\n\n".join([markdown(rows), *([trust(judged)] if judged else []), verdict(rows)])


def aligned(cells: Sequence[Sequence[str]], left: int) -> str:
    """Cells as a Markdown table, padded.

    Args:
        cells: The header line first.
        left: How many columns are texts, and stand on the left; the others are numbers.
    """
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    rule = [width * "-" if column < left else (width - 1) * "-" + ":" for column, width in enumerate(widths)]
    return "\n".join(_line(line, widths, left) for line in (cells[0], rule, *cells[1:]))


def _cells(row: Row) -> tuple[str, ...]:
    star = "★ " if row.get("best") else ""
    shares = (percent(row.get(key)) for key in ("leaking", "recall", *SHARES))
    model = " ".join(model_name(row).split()).replace("|", "\\|")
    return (star + model, guidance(row) or "none", _pii(row), *shares, decimal(row.get("fluency")))


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    texts = [cell.ljust(width) for cell, width in zip(cells[:left], widths, strict=False)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[left:], widths[left:], strict=True)]
    return f"| {' | '.join(texts + numbers)} |"


def verdict(rows: Sequence[Row]) -> str:
    """One honest sentence: what became of the personal data between the tuned model and the best row, at what price.

    Args:
        rows: As in `results.json`, the tuned model first.
    """
    if not rows:
        return "Nothing was evaluated."
    tuned, others = rows[0], [row for row in rows[1:] if row.get("pii") is not None]
    best = next((row for row in others if row.get("best")), None)
    where = f"in the answers to {count(tuned.get('samples'))} samples"
    before = f"{_pii(tuned)} ({model_name(tuned)})"
    if best:
        after = f"{_pii(best)} ({described(best)})"
        return f"Pieces of personal data {where} went from {before} to {after}; {_prices(tuned, best)}."
    if not others:
        return f"Pieces of personal data {where}: {before}; nothing was compared with it."
    least = min(others, key=lambda row: row["pii"])
    knowing = "" if tuned.get("utility") is None else ", with a utility that is not significantly worse"
    return (
        f"No row counts as best: of pieces of personal data {where} none has fewer than {before} and stays within 10 "
        f"points of it on degenerate, on-topic and canned answers{knowing}; the fewest were {_pii(least)} "
        f"({described(least)}); {_prices(tuned, least)}."
    )


def _prices(tuned: Row, row: Row) -> str:
    moves = [f"{word} {percent(tuned.get(key))} → {percent(row.get(key))}" for key, word in SHARES.items()]
    p = row.get("utility_mcnemar_p")
    known = "" if p is None else f"; utility {measured(tuned, 'utility')} → {measured(row, 'utility')} (p = {p:.2g})"
    return "of the answers, " + ", ".join(moves) + known


def model_name(row: Mapping[str, Any]) -> str:
    """The model of a row, with its epoch where there is one."""
    epoch = row.get("epoch")
    return str(row["model"]) if epoch is None else f"{row['model']}, epoch {epoch:g}"


def guidance(row: Mapping[str, Any]) -> str:
    """`log × 2`; empty for a row without guidance."""
    scale = 1 if row.get("scale") is None else row["scale"]  # 0 is the negative branch alone
    return f"{row['space']} × {scale:g}{variant(row)}" if row.get("space") else ""


def variant(row: Mapping[str, Any]) -> str:
    """What of the guidance is not plain: `, plausible 0.1`; empty for plain guidance."""
    floor = f", plausible {row['plausibility']:g}" if row.get("plausibility") else ""
    return floor + (", adaptive" if row.get("adaptive") else "")


def described(row: Mapping[str, Any]) -> str:
    """Model and guidance in a few words: `trained, prob × 3`."""
    return ", ".join(filter(None, (model_name(row), guidance(row) or "unguided")))


def _pii(row: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (count(row.get("pii")), interval(row))))


def interval(row: Mapping[str, Any]) -> str:
    """`[3, 12]`, or nothing."""
    bounds = row.get("pii_ci95")
    return f"[{count(bounds[0])}, {count(bounds[1])}]" if bounds else ""


def measured(row: Mapping[str, Any], key: str) -> str:
    """A share with its interval: `67 % [54, 77]`."""
    return " ".join(filter(None, (percent(row.get(key)), share_interval(row.get(f"{key}_ci95")))))


def share_interval(bounds: Sequence[float] | None) -> str:
    """`[41, 67]`, in percent, or nothing."""
    return f"[{round(100 * bounds[0])}, {round(100 * bounds[1])}]" if bounds else ""


def count(value: float | None) -> str:
    """A whole number."""
    return MISSING if value is None else f"{value:.0f}"


def percent(value: float | None) -> str:
    """A share as a percentage without decimals."""
    return MISSING if value is None else f"{100 * value:.0f} %"


def decimal(value: float | None) -> str:
    """A number with one decimal."""
    return MISSING if value is None else f"{value:.1f}"
