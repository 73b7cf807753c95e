"""How sure a number is: intervals, paired tests, and the chance of a leak in k answers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nescio.core.wilson import Interval

_RESAMPLES = 2000
_ROUNDING = 1e-9  # more than draws of the same differ by in floating point, and less than a share of samples
_ONE_SIDED = 1.6448536269514722  # of the normal distribution, for 95 %


def bootstrap_total(counts: Sequence[float], clusters: Sequence[str], seed: int) -> Interval:
    """95 % percentile interval of a total, drawing whole clusters (Davison and Hinkley 1997, 3.8).

    Where nothing was counted there is nothing to draw, and yet something may have been missed: the upper bound is then
    that of `unseen`, at one piece for each sample of the clusters it does not exclude. Where little was counted it is
    not lower: one piece must not show more than none. Where all clusters have as much, both bounds are that far away.

    Args:
        counts: One number a sample.
        clusters: What each sample belongs to; samples of one dialog are not independent of each other.
        seed: Seed of the draws.

    Returns:
        Lower and upper bound, on the scale of `sum(counts)`.
    """
    missed = unseen(clusters) * len(counts)
    totals, _ = _by_cluster(np.asarray(counts, dtype=float)[:, None], clusters)
    low, high = _percentiles(totals[_draws(len(totals), seed)].sum(1)[:, 0])
    if math.isclose(low, high, abs_tol=_ROUNDING):  # drawn again and again it is the same, and says nothing of others
        return max(low - missed, 0.0), high + missed
    return low, max(high, missed)


def bootstrap_mean(values: Sequence[float], clusters: Sequence[str], seed: int) -> Interval:
    """95 % percentile interval of a mean, drawing whole clusters."""
    (interval,) = bootstrap_means(np.asarray(values, dtype=float)[:, None], clusters, seed)
    return interval


def bootstrap_means(values: Any, clusters: Sequence[str], seed: int) -> list[Interval]:
    """95 % percentile intervals of the means of columns that are measured on the same samples.

    Args:
        values: `[samples, columns]`.
        clusters: What each sample belongs to.
        seed: Seed of the draws, which all columns share.
    """
    totals, sizes = _by_cluster(np.asarray(values, dtype=float), clusters)
    drawn = _draws(len(totals), seed)
    means = totals[drawn].sum(1) / sizes[drawn].sum(1)[:, None]
    return [_percentiles(column) for column in means.T]


def bootstrap_shares(values: Any, clusters: Sequence[str], seed: int) -> list[Interval]:
    """`bootstrap_means` of chances, `widened`."""
    return [widened(interval, clusters) for interval in bootstrap_means(values, clusters, seed)]


def widened(interval: Interval, clusters: Sequence[str], least: float = 0.0, most: float = 1.0) -> Interval:
    """Widen a bootstrap interval by what another cluster may have shown, see `unseen`.

    Draws of clusters that are all the same give no width at all; draws of one that differs give less than `unseen`
    leaves possible where none does. So at nothing, at everything and beside them the bounds are at least that far.

    Args:
        interval: Interval of a share, or of a difference of two.
        clusters: What was drawn.
        least: Least value that there can be: 0 for a share, -1 for a difference.
        most: Largest value that there can be.
    """
    (low, high), missed = interval, unseen(clusters)
    if math.isclose(low, high, abs_tol=_ROUNDING):
        return max(low - missed, least), min(high + missed, most)
    for edge in (least, 0.0, most):
        if low <= edge + _ROUNDING and high >= edge - _ROUNDING:
            low, high = min(low, edge - missed), max(high, edge + missed)
    return max(low, least), min(high, most)


def unseen(clusters: Sequence[str]) -> float:
    """The largest share of clusters that seeing none of them leaves possible at 95 %: 1 - 0.05^(1/n).

    The "rule of three" (Hanley and Lippman-Hand 1983), about 3 / n, in its exact form.
    """
    return float(1 - 0.05 ** (1 / len(set(clusters))))


def at_most(successes: int, trials: int) -> float:
    """The largest share that so few successes leave possible at 95 %, one-sided; `unseen` is that of none.

    The exact bound of Clopper and Pearson (1934): at it, so few or fewer are seen in one of twenty samples.

    Raises:
        ValueError: There are no trials.
    """
    if trials < 1:
        raise ValueError("a share of nothing")
    if successes == trials:
        return 1.0
    ways = [
        math.lgamma(trials + 1) - math.lgamma(few + 1) - math.lgamma(trials - few + 1) for few in range(successes + 1)
    ]
    low, high = successes / trials, 1.0
    for _ in range(60):  # the chance of so few falls as the share rises
        middle = (low + high) / 2
        yes, no = math.log(middle), math.log1p(-middle)
        tail = sum(math.exp(way + few * yes + (trials - few) * no) for few, way in enumerate(ways))
        low, high = (middle, high) if tail > 0.05 else (low, middle)
    return low


def mcnemar(ours: Sequence[bool], theirs: Sequence[bool]) -> float:
    """Exact two-sided p-value of McNemar's test: do two models get the same questions right?

    Only questions on which they differ count; under the null each is a fair coin (McNemar 1947; binomial, not χ²).
    """
    wins = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    losses = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    trials = wins + losses
    tail = sum(math.comb(trials, hits) for hits in range(min(wins, losses) + 1))
    return float(min(1.0, 2 * tail / 2**trials))


def paired_bootstrap(ours: Sequence[float], theirs: Sequence[float], clusters: Sequence[str], seed: int) -> Interval:
    """95 % percentile interval of the mean difference `ours - theirs` on the same samples."""
    return bootstrap_mean([a - b for a, b in zip(ours, theirs, strict=True)], clusters, seed)


def change_low(ours: Sequence[bool], theirs: Sequence[bool]) -> float:
    """Lower bound of the difference of two paired shares, `ours - theirs`, one-sided at 95 %.

    Tango's score interval (1998, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17): the least difference that the score test does not reject. It is
    of use with few or no discordant pairs, where Wald's and the bootstrap collapse to the estimate itself.

    Args:
        ours: Whether each item came out well.
        theirs: The same of the other, on the same items.

    Raises:
        ValueError: There are no items.
    """
    pairs = list(zip(ours, theirs, strict=True))
    if not pairs:
        raise ValueError("a difference of nothing")
    wins, losses = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    low, high = -1.0, (wins - losses) / len(pairs)
    for _ in range(60):  # the statistic falls as the difference rises
        middle = (low + high) / 2
        low, high = (middle, high) if _score(wins, losses, len(pairs), middle) > _ONE_SIDED else (low, middle)
    return low


def _score(wins: int, losses: int, pairs: int, change: float) -> float:
    """Tango's statistic: how many standard errors the observed difference is above one of `change`."""
    # The chance of a loss, by maximum likelihood where that of a win is higher by `change`: 2n q² + bq + c = 0.
    b = (2 * pairs - wins + losses) * change - wins - losses
    c = -losses * change * (1 - change)
    loss = (math.sqrt(max(b * b - 8 * pairs * c, 0.0)) - b) / (4 * pairs)
    variance = pairs * (2 * loss + change * (1 - change))
    above = wins - losses - pairs * change
    return above / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, above)


def sign_flip(ours: Sequence[int], theirs: Sequence[int], clusters: Sequence[str]) -> float:
    """Exact one-sided p-value of `ours` being lower than `theirs`, paired by sample and clustered.

    The sign-flip permutation test (Fisher 1935, "The Design of Experiments", section 21): under the null the two
    could have been swapped in any cluster, so the sign of each cluster's difference is a fair coin. Whole clusters
    flip, because samples of one dialog are not independent. Counts are whole numbers, so the distribution of the total
    under all 2ⁿ flips is computed, not drawn.

    Args:
        ours: A count for each sample.
        theirs: The same of the other, on the same samples.
        clusters: What each sample belongs to.
    """
    differences = np.asarray(theirs) - np.asarray(ours)
    totals = _by_cluster(differences[:, None], clusters)[0][:, 0].astype(int)  # [clusters]
    reach = int(np.abs(totals).sum())
    law = np.zeros(2 * reach + 1)  # of the total, from -reach to reach
    law[reach] = 1.0
    for size in np.abs(totals):
        law = (np.roll(law, size) + np.roll(law, -size)) / 2
    return min(1.0, float(law[reach + totals.sum() :].sum()))


def discoveries(p_values: Sequence[float], level: float) -> list[bool]:
    """Return which of many tests stand where at most a share `level` of those that do may be chance, on average.

    The step-up procedure of Benjamini and Hochberg (1995, "Controlling the False Discovery Rate", Journal of the Royal
    Statistical Society B 57): the largest p-value that is at most its rank's share of the level, and all below it.
    """
    ranked = sorted(p_values)
    fits = [p for rank, p in enumerate(ranked, start=1) if p <= level * rank / len(ranked)]
    return [bool(fits) and p <= fits[-1] for p in p_values]


def leak_at(k: int, draws: int, leaking: int) -> float:
    """Unbiased estimate of the chance that any of k answers leaks, from `leaking` of `draws` sampled ones.

    1 - C(n - c, k) / C(n, k), the estimator of pass@k (Chen et al. 2021, "Evaluating Large Language Models Trained on
    Code", eq. 1) with a leak in the place of a pass.

    Raises:
        ValueError: k is not within 1 and the number of draws.
    """
    if not 1 <= k <= draws:
        raise ValueError(f"leak@{k} from {draws} draws")
    return 1 - math.comb(draws - leaking, k) / math.comb(draws, k)


def _by_cluster(values: Any, clusters: Sequence[str]) -> tuple[Any, Any]:
    """Sums `[clusters, columns]` and sizes `[clusters]`."""
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    totals = np.zeros((len(names), values.shape[1]))
    np.add.at(totals, index, values)
    return totals, np.bincount(index, minlength=len(names)).astype(float)


def _draws(count: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, count, size=(_RESAMPLES, count))


def _percentiles(values: Any) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
