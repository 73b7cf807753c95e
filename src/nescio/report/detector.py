"""What the detector of a run sees, and what it does not: the words that stand under every count."""

from collections.abc import Mapping, Sequence
from typing import Any

WELL = 0.95
"""A type of which so much is seen is seen well."""


def seen(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Say how many of a run's recorded pieces its detector sees.

    Args:
        rows: As in `results.json`; None is returned for those of a version that did not check.
    """
    if not rows or not rows[0].get("detector"):
        return None
    name, shares = rows[0]["detector"], rows[0].get("detector_seen")
    if not shares:
        return (
            f"Detector: {name}. The dialogs record no slots, so how much it sees is not known; `nescio detect check "
            "FILE --sample 50` writes texts to correct by hand, and then tells."
        )
    types = [(kind, share) for kind, share in shares.items() if kind != "all"]
    well = [_share(kind, share) for kind, share in types if share["recall"] >= WELL]
    less = [_share(kind, share) for kind, share in types if share["recall"] < WELL]
    parts = [f"Detector: {name}. It sees {_share('', shares['all'])} recorded pieces; the column PII lacks the others"]
    parts += [f"Seen well: {', '.join(well)}"] if well else []
    parts += [f"Seen less: {', '.join(less)}"] if less else []
    left = rows[0].get("detector_not_looked_for") or {}
    parts += [f"Not looked for: {', '.join(f'{count} {kind}' for kind, count in left.items())}"] if left else []
    return ". ".join(parts) + "."


def wrong(row: Mapping[str, Any]) -> str | None:
    """Say why a row's `detector_seen` cannot be shown, or None."""
    shares = row.get("detector_seen")
    if shares is None:
        return None
    fits = isinstance(shares, dict) and "all" in shares and all(map(_fits, shares.values()))
    if not fits:
        return "detector_seen must hold pieces, recall and recall_ci95 of each type"
    left = row.get("detector_not_looked_for", {})
    counts = isinstance(left, dict) and all(type(count) is int for count in left.values())
    return None if counts else "detector_not_looked_for must hold a number of pieces by type"


def _fits(share: Any) -> bool:
    ends = share.get("recall_ci95") if isinstance(share, dict) else None
    numbers = [share.get("pieces"), share.get("recall"), *ends] if isinstance(ends, list) else []
    return len(numbers) == 4 and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)


def _share(name: str, share: Mapping[str, Any]) -> str:
    low, high = (round(100 * end) for end in share["recall_ci95"])
    return f"{name and name + ' '}{100 * share['recall']:.0f} % [{low}, {high}] of {share['pieces']}"
