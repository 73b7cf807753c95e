"""What a row says to everybody, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from nescio.report.table import described


def favourites(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each row with filler: its commonest words, how many answers hold them, and of the tuned model.

    Args:
        rows: As in `results.json`.
    """
    return [f"{described(row)} says {words(row)} of {row.get('samples')} answers." for row in rows if words(row)]


def words(row: Mapping[str, Any]) -> str:
    """Return the commonest words of a row's filler with their answers; empty where it has none."""
    return ", ".join(
        f"“{found['words']}” in {found['answers']} (tuned {found['tuned']})" for found in row.get("filler_words") or ()
    )
