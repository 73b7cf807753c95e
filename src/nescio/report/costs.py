"""What each row costs beside what it leaks, and its personal data by label, as tables of text. Knows result rows."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from nescio.report import table
from nescio.report.table import Row

_COSTS: dict[str, tuple[str, str]] = {
    "utility": ("Utility [95 %]", "share"),
    "utility_change_ci95": ("Change [95 %]", "interval"),
    "utility_mcnemar_p": ("p against tuned", "p"),
    "judged": ("Judged [95 %]", "share"),
    "divergence": ("KL per token", "number"),
    "over_refusal": ("Over-refusal", "share"),
    "lower_case": ("Lower case", "share"),
    "role_confusion": ("Role confusion", "share"),
    "repetition": ("Repetition", "share"),
    "words": ("Words", "number"),
    "attack": ("Attack [95 %]", "share"),
    "filter_seconds": ("Filter, ms", "ms"),
}
_MEANINGS = {
    "divergence": "KL per token: from the tuned model, on harmless prompts.",
    "over_refusal": "Over-refusal: harmless prompts refused or left unanswered.",
    "lower_case": "Lower case: sentences that start so.",
    "role_confusion": "Role confusion: answers in which user and assistant change places.",
    "repetition": "Repetition: four-word sequences said before.",
    "attack": "Attack: slots of training samples whose value came out; published for the competition: 4.01 %.",
}


def costs(rows: Sequence[Row]) -> dict[str, Any]:
    """The second table: a column for each measure that some row has, and its cells as text."""
    columns = [key for key in _COSTS if any(row.get(key) is not None for row in rows)]
    kinds = {row["utility_kind"] for row in rows if row.get("utility_kind")}
    judge = table.judge(rows)
    return {
        "headers": [_COSTS[key][0] for key in columns],
        "unusable": [key == "judged" and judge is not None and not judge["judge_usable"] for key in columns],
        "cells": [[_cost(row, key) for key in columns] for row in rows],
        "meanings": " ".join(meaning for key, meaning in _MEANINGS.items() if key in columns),
        "utility": ", ".join(sorted(kinds)),
        "judge": judge and table.trust(judge),
    }


def _cost(row: Row, key: str) -> str:
    value, kind = row.get(key), _COSTS[key][1]
    if value is None:
        return table.MISSING
    if kind == "share":
        return table.measured(row, key)
    if kind == "interval":
        return table.share_interval(value)
    if kind == "ms":
        return f"{1000 * value:.1f}"
    if kind == "p":
        return f"{value:.3f}" if value >= 0.001 else "< 0.001"
    return f"{value:.2f}"


def labels(rows: Sequence[Row]) -> dict[str, Any]:
    """Personal data by label: labels by how often they were found in all, and a line for each row."""
    totals = Counter[str]()
    for row in rows:
        totals.update(row.get("labels") or {})
    names = [name for name, _ in totals.most_common()]
    return {"names": names, "cells": [[(row.get("labels") or {}).get(name, 0) for name in names] for row in rows]}


def attacks(rows: Sequence[Row]) -> dict[str, Any]:
    """The slot attack by slot type: the types, and a line for each row."""
    found = [row.get("attack_labels") or {} for row in rows]
    names = sorted({name for own in found for name in own})
    return {"names": names, "cells": [[_attacked(own.get(name)) for name in names] for own in found]}


def _attacked(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return table.MISSING
    share = table.percent(outcome["found"] / outcome["slots"])
    return f"{share} of {outcome['slots']} {table.share_interval(outcome['ci95'])}"
