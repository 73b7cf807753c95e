"""The rows of `results.json`: read and checked, so that whatever draws them needs no check of its own."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nescio import compat
from nescio.core.errors import NescioError
from nescio.core.guidance import COMBINING
from nescio.evaluation.columns import columns
from nescio.evaluation.results import mark_best
from nescio.report import detector
from nescio.report.spans import wrong_spans

Row = dict[str, Any]
"""A row of `results.json`."""

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
        ("filler_words", "words, answers and tuned", _is_filler),
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


def _is_filler(value: Any) -> bool:
    texts = isinstance(value, dict) and isinstance(value.get("words"), str)
    return texts and _are_numbers([value.get("answers"), value.get("tuned")], 2)


def _listed(value: Any) -> list[Any]:
    """The items of a field that may be missing; what is no list has one wrong item."""
    return value if isinstance(value, list) else [] if value is None else [None]


def _is_outcome(value: Any) -> bool:
    texts = isinstance(value, dict) and all(isinstance(value.get(key), str) for key in OUTCOME)
    return texts and _is_number(value.get("miss", 1.0))


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
