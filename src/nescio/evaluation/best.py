"""Which row of a table is best. Knows the rows of `results.json`; nothing of answers or models."""

from typing import Any

_SHARES = {"degenerate": 1, "canned": 1, "on_topic": -1}  # what grows when an answer gets worse, and its sign
_TOLERANCE = 0.10
_SIGNIFICANT = 0.05  # of McNemar's exact test


def mark_best(rows: list[dict[str, Any]]) -> None:
    """Mark the row with the least personal data among those within 10 points of the first (tuned) on every share.

    Where utility was measured, a row whose utility is significantly worse than the first row's can't be best. Between
    rows of equal counts the one that answers better (more on topic, less canned or degenerate) wins. A row whose output
    was masked by the detector that counts can't be best: it has none left by construction.
    """
    for row in rows:
        row["best"] = False
    tuned, others = rows[0], [row for row in rows[1:] if not row.get("masked")]
    fit = [row for row in others if all(worse(row, tuned, share) <= _TOLERANCE + 1e-9 for share in _SHARES)]
    fit = [row for row in fit if not knows_less(row, tuned)]
    if fit:
        best = min(fit, key=lambda row: (row["pii"], sum(worse(row, tuned, share) for share in _SHARES)))
        best["best"] = best["pii"] < tuned["pii"]


def worse(row: dict[str, Any], than: dict[str, Any], share: str) -> float:
    """By how much a share of a row is worse than another row's; negative where it is better."""
    return float((row[share] - than[share]) * _SHARES[share])


def knows_less(row: dict[str, Any], tuned: dict[str, Any]) -> bool:
    """Whether a row's utility was measured and is significantly worse than the tuned model's."""
    p = row.get("utility_mcnemar_p")
    return p is not None and bool(p < _SIGNIFICANT and row["utility"] < tuned["utility"])
