"""What a row says to everybody, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from nescio.report.table import described


def favourites(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each row with filler: its commonest words, how many answers hold them, and of the tuned model.

    Args:
        rows: As in `results.json`.
    """
    return [
        f"{described(row)} says {', '.join(map(_counted, row['filler_words']))} of {row.get('samples')} answers."
        for row in rows
        if row.get("filler_words")
    ]


def _counted(found: Mapping[str, Any]) -> str:
    return f"“{found['words']}” in {found['answers']} (tuned: {found['tuned']})"
