"""Where answers in words and the likelihood of options, or a judge, tell different stories of a row."""

from collections.abc import Mapping, Sequence
from typing import Any

from nescio.report.table import described, percent

_SIGNIFICANT = 0.05  # p-value of McNemar's exact test against the first row
_OTHERS = {"utility": "utility by likelihood of options", "judged": "the judge's share"}


def disagreements(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each row in which one measure fell significantly from the first row's and the other did not.

    Args:
        rows: As in `results.json`, the tuned model first.
    """
    tuned, found = next(iter(rows), {}), list[str]()
    for row in rows[1:]:
        for other, name in _OTHERS.items():
            words, theirs = _fell(row, tuned, "words"), _fell(row, tuned, other)
            if words is None or theirs is None or words == theirs:
                continue
            in_words, in_other = _moved(row, tuned, "words"), _moved(row, tuned, other)
            said = (
                f"words fell ({in_words}), {name} did not ({in_other})"
                if words
                else f"{name} fell ({in_other}), words did not ({in_words})"
            )
            found.append(f"{described(row)}: {said}.")
    return found


def _fell(row: Mapping[str, Any], tuned: Mapping[str, Any], key: str) -> bool | None:
    """Whether a share is significantly lower than the first row's; None where it was not measured."""
    p, now, before = row.get(f"{key}_mcnemar_p"), row.get(key), tuned.get(key)
    if p is None or now is None or before is None:
        return None
    return bool(p < _SIGNIFICANT and now < before)


def _moved(row: Mapping[str, Any], tuned: Mapping[str, Any], key: str) -> str:
    return f"{percent(tuned[key])} → {percent(row[key])}, p = {row[f'{key}_mcnemar_p']:.2g}"
