"""The bootstrap against SciPy's."""

import numpy as np
import pytest
from scipy import stats

from nescio.evaluation.statistics import bootstrap_total


def test_agrees_with_scipy_where_each_sample_is_a_cluster() -> None:
    counts = np.random.default_rng(1).poisson(1.5, size=80).astype(float)
    ours = bootstrap_total(counts.tolist(), [str(n) for n in range(80)], seed=0)
    theirs = stats.bootstrap((counts,), np.sum, n_resamples=4000, method="percentile", rng=np.random.default_rng(2))
    interval = theirs.confidence_interval
    assert ours == pytest.approx((interval.low, interval.high), abs=0.06 * counts.sum())


def test_samples_of_one_dialog_widen_the_interval() -> None:
    counts = [0.0, 3.0] * 20
    alone = bootstrap_total(counts, [str(n) for n in range(40)], seed=0)
    alike = sorted(counts)
    together = bootstrap_total(alike, [str(n // 10) for n in range(40)], seed=0)
    assert together[1] - together[0] > alone[1] - alone[0]


def test_is_seeded() -> None:
    assert bootstrap_total([1, 2, 3], ["a", "b", "c"], 5) == bootstrap_total([1, 2, 3], ["a", "b", "c"], 5)
