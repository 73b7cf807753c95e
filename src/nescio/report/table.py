"""The rows of `results.json`: read and checked, and as a table in Markdown."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nescio import compat
from nescio.core.errors import NescioError
from nescio.core.guidance import COMBINING, variant_words
from nescio.evaluation.columns import Column, Kind, Place, columns
from nescio.evaluation.results import mark_best
from nescio.report import detector
from nescio.report.spans import wrong_spans

Row = dict[str, Any]
"""A row of `results.json`."""

MISSING = "–"
OUTCOME = ("test", "figure", "limit", "advice")
"""Fields of a test that a row failed or that is undecided."""

_ASKED_FOR = ("asked_for_samples", "asked_for_plain_tuned", "key_search_samples", "key_search_plain_tuned")
_OF_EXPORTS = ("leaks_more_p", "words_apart_p")
_NUMBERS = (
    "epoch",
    "samples",
    "attacked_most",
    "judge_accuracy",
    "judged_mcnemar_p",
    *_ASKED_FOR,
    *_OF_EXPORTS,
    *(each.name for each in COMBINING if each.type is float),
)
_TEXTS = ("space", "utility_kind", "judge", "asked_for_worst", "attacked_worst", "of", "adapter")


def read(run: Path) -> list[Row]:
    """Read the rows of a run's table and check them.

    Args:
        run: The run folder.

    Raises:
        NescioError: `eval/results.json` is missing, or is not what an evaluation writes.
    """
    rows = read_rows(run / "eval/results.json")
    if any("verdict" not in row for row in rows[1:]):
        mark_best(rows)  # written by a version that kept the star alone, and asked for less
    return rows


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a file like `results.json` and check them.

    Raises:
        NescioError: The file is missing, or is not what an evaluation writes.
    """
    try:
        # NaN and Infinity, which JSON does not have, are no measurements.
        rows = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: None)
    except (OSError, ValueError, RecursionError) as error:
        raise spoiled(path, "missing" if isinstance(error, FileNotFoundError) else "not JSON") from error
    if not isinstance(rows, list) or not rows:
        raise spoiled(path, "not a list of rows")
    rows = [compat.results_row(row) if isinstance(row, dict) else row for row in rows]
    for number, row in enumerate(rows, start=1):
        wrong = _wrong_field(row)
        if wrong:
            raise spoiled(path, f"row {number}: {wrong}")
    return rows


def spoiled(path: Path, what: str) -> NescioError:
    """Return the error for a file of a run that is missing or damaged, with how to make it again.

    A stage is done again when its output is gone, and the output of evaluation and training is the whole folder.
    """
    gone = path.parent if path.parent.name in ("eval", "teacher", "adapter") else path
    fix = f"delete {gone} and run `nescio run` again" if gone.exists() else "run `nescio run` again"
    fix = f"delete {path}; exports are checked again" if path.parent.name == "checks" else fix
    return NescioError(f"{path}: {what}; {fix}")


def _wrong_field(row: Any) -> str | None:
    """The reason why a row cannot be shown, or None."""
    if not isinstance(row, dict):
        return "not an object"
    name = row.get("name")
    if not isinstance(name, str) or not name or set(name) & set("/\\\0"):
        return "name must be the name of an answers file"
    if not isinstance(row.get("model"), str):
        return "model must be a text"
    known = columns()
    pairs = [key for key in row if key.endswith("_ci95")] + [each.key for each in known if each.kind == "interval"]
    numbers = [*_NUMBERS, *(each.key for each in known if each.kind != "interval")]
    checks: list[tuple[str, Sequence[str], Callable[[Any], bool]]] = [
        ("a text", _TEXTS, lambda value: isinstance(value, str)),
        ("two numbers", pairs, lambda value: _are_numbers(value, 2)),
        ("a number", numbers, _is_number),
    ]
    for needed, keys, fits in checks:
        for key in keys:
            if row.get(key) is not None and not fits(row[key]):
                return f"{key} must be {needed}"
    return _wrong_mapping(row) or detector.wrong(row)


def _wrong_mapping(row: Row) -> str | None:
    """The reason why a field that holds a value for each label or each k cannot be shown, or None."""
    checks: list[tuple[str, str, Callable[[str, Any], bool]]] = [
        ("labels", "the count of each label", lambda label, found: _is_number(found)),
        ("leak_at", "a share and its interval for each k", lambda k, share: k.isdigit() and _are_numbers(share, 3)),
        ("attack_labels", "found, slots and ci95 of each type", lambda label, found: _is_attack(found)),
        ("attacked", "title and share of each attack", lambda name, found: _is_attacked(found)),
        ("asked_for_by", "the pieces at each place", lambda place, pieces: _is_number(pieces)),
    ]
    for key, needed, fits in checks:
        value = row.get(key)
        if value is not None and not (isinstance(value, dict) and all(fits(*item) for item in value.items())):
            return f"{key} must hold {needed}, as `nescio evaluate` writes them now"
    answers = row.get("asked_for_answers")
    if answers is not None and not (isinstance(answers, list) and all(map(_is_asked_for, answers))):
        return "asked_for_answers must be a list of id, asked, answer and its spans"
    lists: list[tuple[str, str, Callable[[Any], bool]]] = [
        ("key_search_sentences", "sentence and pieces", _is_tried),
        ("attacked_examples", "person, what, asked, answer and places", _is_attack_example),
    ]
    for key, needed, is_one in lists:
        if not all(map(is_one, _listed(row.get(key)))):
            return f"{key} must be a list of {needed}"
    for key in ("verdict", "undecided"):
        if not all(_is_outcome(outcome) for outcome in _listed(row.get(key))):
            return f"{key} must be a list of test, figure, limit and advice"
    if not all(isinstance(test, str) for test in _listed(row.get("unmeasured"))):
        return "unmeasured must be a list of tests"
    return None


def _is_asked_for(value: Any) -> bool:
    texts = isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("id", "asked", "answer"))
    return texts and wrong_spans(value["answer"], value.get("spans")) is None


def _is_attacked(value: Any) -> bool:
    if not (isinstance(value, dict) and isinstance(value.get("title"), str)):
        return False
    if value.get("share") is None:
        return True
    numbers = [value["share"], value.get("guessed"), value.get("facts")]
    return _are_numbers(numbers, 3) and _are_numbers(value.get("share_ci95"), 2)


def _is_attack_example(value: Any) -> bool:
    if not (isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("person", "what", "answer"))):
        return False
    asked, places = value.get("asked"), value.get("places")
    turns = (
        isinstance(asked, list) and bool(asked) and all(isinstance(turn, dict) and "content" in turn for turn in asked)
    )
    pairs = isinstance(places, list) and all(_are_numbers(place, 2) for place in places)
    spans = [{"start": place[0], "end": place[1], "label": ""} for place in places or ()] if pairs else None
    return turns and wrong_spans(value["answer"], spans) is None


def _is_tried(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("sentence"), str) and _is_number(value.get("pieces"))


def _listed(value: Any) -> list[Any]:
    """The items of a field that may be missing; what is no list has one wrong item."""
    return value if isinstance(value, list) else [] if value is None else [None]


def _is_outcome(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in OUTCOME)


def _is_attack(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _are_numbers([value.get("found"), value.get("slots")], 2)
        and value["slots"] > 0
        and _are_numbers(value.get("ci95"), 2)
    )


def _are_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
    """Return the personal data of a row with its interval: `4 [1, 8]`."""
    return " ".join(filter(None, (count(row.get("pii")), interval(row))))


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
