"""How sure a number is. Knows numbers only."""

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 2000


def bootstrap_total(counts: Sequence[float], clusters: Sequence[str], seed: int) -> tuple[float, float]:
    """95 % percentile interval of a total, drawing whole clusters (Davison and Hinkley 1997, 3.8).

    Args:
        counts: One number a sample.
        clusters: What each sample belongs to; samples of one dialog are not independent of each other.
        seed: Of the draws.

    Returns:
        Lower and upper bound, on the scale of `sum(counts)`.
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    totals = np.bincount(index, weights=np.asarray(counts, dtype=float), minlength=len(names))
    draws = np.random.default_rng(seed).integers(0, len(names), size=(_RESAMPLES, len(names)))
    low, high = np.percentile(totals[draws].sum(1), [2.5, 97.5])
    return float(low), float(high)
