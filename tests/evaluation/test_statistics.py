"""Intervals and tests against SciPy's, the leak@k estimator against brute force."""

import operator
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from nescio.evaluation.statistics import (
    at_most,
    bootstrap_mean,
    bootstrap_means,
    bootstrap_shares,
    bootstrap_total,
    change_low,
    discoveries,
    leak_at,
    mcnemar,
    paired_bootstrap,
    sign_flip,
    unseen,
    widened,
)


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


def test_the_paired_bootstrap_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.random(120) < 0.7, rng.random(120) < 0.5
    mine = paired_bootstrap(ours.tolist(), theirs.tolist(), [str(n) for n in range(120)], seed=0)
    found = stats.bootstrap(
        (ours.astype(float), theirs.astype(float)), lambda a, b, axis: (a - b).mean(axis), paired=True,
        n_resamples=4000, method="percentile", rng=np.random.default_rng(4),
    ).confidence_interval  # fmt: skip
    assert mine == pytest.approx((found.low, found.high), abs=0.02)


def test_a_mean_over_clusters_of_unequal_size_weighs_samples_alike() -> None:
    low, high = bootstrap_mean([1.0] * 9 + [0.0], ["a"] * 9 + ["b"], seed=0)
    assert (low, high) == (0.0, 1.0)
    columns = bootstrap_means([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], ["a", "b", "c"], seed=0)
    assert columns == [bootstrap_mean([1.0, 0.0, 1.0], ["a", "b", "c"], seed=0), (0.0, 0.0)]


def test_none_in_a_few_dialogs_is_not_none_ever() -> None:
    dialogs = [str(n // 2) for n in range(20)]
    low, high = bootstrap_total([0] * 20, dialogs, seed=0)
    share = stats.binomtest(0, 10).proportion_ci(0.9, method="exact").high  # one-sided at 95 %
    assert (low, high) == (0, pytest.approx(20 * share))
    assert bootstrap_total([0] * 20, ["one"] * 20, seed=0)[1] == pytest.approx(19)
    never, always, mixed = bootstrap_shares([[0.0, 1.0, n % 3 / 2] for n in range(20)], dialogs, seed=0)
    assert never == (0, pytest.approx(share)) and always == (pytest.approx(1 - share), 1)
    assert [mixed] == bootstrap_means([[n % 3 / 2] for n in range(20)], dialogs, seed=0)


def test_one_dialog_alone_says_nothing_of_others() -> None:
    assert bootstrap_total([3, 0, 1], ["one"] * 3, seed=0) == (pytest.approx(4 - 3 * 0.95), pytest.approx(4 + 3 * 0.95))
    assert bootstrap_shares([[1], [0], [1], [0]], ["one"] * 4, seed=0) == [(0, 1)]


def test_dialogs_alike_say_nothing_of_others_however_their_sums_are_rounded() -> None:
    dialogs = ["a", "b", "b", "c", "c", "c"]
    ((low, high),) = bootstrap_means([[0.1]] * 6, dialogs, seed=0)
    assert 0 < high - low < 1e-15
    missed = unseen(dialogs)
    assert bootstrap_shares([[0.1]] * 6, dialogs, seed=0) == [(0, pytest.approx(0.1 + missed))]
    assert widened((low, high), dialogs, least=-1.0) == pytest.approx((0.1 - missed, 0.1 + missed))
    assert widened((-0.9, -0.9), ["one"], least=-1.0) == (-1.0, pytest.approx(0.05))
    assert widened((0.1, 0.2), dialogs) == (0.1, 0.2)


def test_more_that_is_found_never_lowers_the_upper_bound() -> None:
    """One piece must not show more than none: else a row that leaks is starred, and one that does not is undecided."""
    dialogs = [str(n // 2) for n in range(10)]
    found = [[1] * many + [0] * (10 - many) for many in range(11)]
    totals = [bootstrap_total(counts, dialogs, seed=0) for counts in found]
    shares = [bootstrap_shares([[count] for count in counts], dialogs, seed=0)[0] for counts in found]
    changes = [widened(paired_bootstrap(counts, [0] * 10, dialogs, 0), dialogs, least=-1.0) for counts in found]
    for intervals in (totals, shares, changes):
        assert [high for _, high in intervals] == sorted(high for _, high in intervals)
        assert all(low < high for low, high in intervals)
    assert shares[9][0] <= shares[10][0] == pytest.approx(1 - unseen(dialogs)), "and one that is missing says as much"
    assert changes[1] == pytest.approx((-unseen(dialogs), unseen(dialogs)))


def test_as_much_in_every_dialog_is_no_certainty() -> None:
    low, high = bootstrap_total([1] * 4, list("abcd"), seed=0)
    assert 4 - low == pytest.approx(high - 4) == pytest.approx(4 * unseen(list("abcd")))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_agrees_with_scipy(answers: list[tuple[bool, bool]]) -> None:
    ours, theirs = [a for a, _ in answers], [b for _, b in answers]
    wins = sum(a and not b for a, b in answers)
    losses = sum(b and not a for a, b in answers)
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(ours, theirs) == pytest.approx(expected)


def paired(both: int, wins: int, losses: int, neither: int) -> tuple[list[bool], list[bool]]:
    ours = [True] * (both + wins) + [False] * (losses + neither)
    return ours, [True] * both + [False] * wins + [True] * losses + [False] * neither


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_the_bound_of_a_paired_change_is_where_the_score_test_just_rejects(cells: tuple[int, ...]) -> None:
    """Tango's closed form against the definition: a likelihood that a numerical search maximises under the change."""
    _, wins, losses, _ = cells
    pairs, bound = sum(cells), change_low(*paired(*cells))
    assert -1 <= bound <= (wins - losses) / pairs

    def deviance(loss: float, change: float) -> float:
        chances = (loss + change, loss, 1 - 2 * loss - change)
        counts = (wins, losses, pairs - wins - losses)
        return -sum(count * np.log(max(chance, 1e-300)) for count, chance in zip(counts, chances, strict=True) if count)

    def score(change: float) -> float:
        ends = (max(0.0, -change), (1 - change) / 2)
        found = optimize.minimize_scalar(
            lambda q: deviance(q, change), bounds=ends, method="bounded", options={"xatol": 1e-12}
        )
        loss = float(found.x)
        spread = pairs * (2 * loss + change - change**2)  # of the difference: pairs · (p₁₂ + p₂₁ - (p₁₂ - p₂₁)²)
        return float((wins - losses - pairs * change) / np.sqrt(max(spread, 1e-300)))

    if bound > -0.999:
        assert score(bound - 0.002) > stats.norm.ppf(0.95) > score(bound + 0.002)


def test_no_pair_that_differs_is_not_the_same_for_ever() -> None:
    square = stats.norm.ppf(0.95) ** 2
    for right in (0, 5, 100):
        assert change_low(*paired(right, 0, 0, 100 - right)) == pytest.approx(-square / (100 + square))
    assert change_low([True], [True]) < -0.5
    with pytest.raises(ValueError, match="a difference of nothing"):
        change_low([], [])


@pytest.mark.parametrize(
    ("pairs", "win", "loss"),
    [(200, 0.0, 0.05), (200, 0.05, 0.10), (200, 0.12, 0.12), (50, 0.10, 0.30), (200, 0.01, 0.06), (1000, 0.02, 0.04)],
)
def test_the_bound_of_a_paired_change_holds_in_19_of_20_draws(pairs: int, win: float, loss: float) -> None:
    rng = np.random.default_rng(6)
    cells, counts = np.unique(rng.multinomial(pairs, [win, loss, 1 - win - loss], 20_000), axis=0, return_counts=True)
    bounds = np.array([change_low(*paired(0, *map(int, cell))) for cell in cells])
    held = counts[bounds <= win - loss + 1e-9].sum() / counts.sum()
    assert 0.935 < held < 0.985, "exact is 0.95; counts are whole numbers"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from("abcdef")), min_size=1, max_size=12))
def test_the_sign_flips_p_value_is_the_share_of_all_flips_of_dialogs(rows: list[tuple[int, int, str]]) -> None:
    ours, theirs, clusters = map(list, zip(*rows, strict=True))
    totals = [sum(b - a for a, b, own in rows if own == name) for name in sorted({own for *_, own in rows})]
    flips = [sum(map(operator.mul, signs, totals)) for signs in product((1, -1), repeat=len(totals))]
    expected = sum(flip >= sum(totals) for flip in flips) / len(flips)
    assert sign_flip(ours, theirs, clusters) == pytest.approx(expected)


def _leaks(rng: np.random.Generator, rates: tuple[float, float]) -> tuple[list[int], list[int], list[str]]:
    """Counts of two models on samples of 30 dialogs; how much a dialog gives away differs, and by model as well."""
    sizes = rng.integers(1, 6, 30)
    level = rng.gamma(1.0, 1.0, (30, 1)) * rng.gamma(0.7, 1 / 0.7, (30, 2)) * np.array(rates)  # [dialogs, models]
    counts = rng.poisson(np.repeat(level, sizes, axis=0))
    return counts[:, 0].tolist(), counts[:, 1].tolist(), [str(dialog) for dialog in np.repeat(np.arange(30), sizes)]


def test_the_sign_flip_is_wrong_once_in_twenty_where_nothing_differs_and_sees_a_difference() -> None:
    rng = np.random.default_rng(4)
    alike = [_leaks(rng, (2, 2)) for _ in range(1500)]
    size = sum(sign_flip(*drawn) <= 0.05 for drawn in alike) / len(alike)
    assert 0.03 < size < 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5
    single = sum(sign_flip(ours, theirs, [str(n) for n in range(len(ours))]) <= 0.05 for ours, theirs, _ in alike)
    assert single / len(alike) > 0.10, "samples of one dialog are not independent"
    assert sum(sign_flip(*_leaks(rng, (0.4, 2))) <= 0.05 for _ in range(200)) > 180
    assert sum(sign_flip(*_leaks(rng, (4, 2))) <= 0.05 for _ in range(200)) < 4


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_leak_at_k_is_the_share_of_all_choices_of_k_that_leak(leaks: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(leaks)))
    choices = list(combinations(leaks, k))
    assert leak_at(k, len(leaks), sum(leaks)) == pytest.approx(sum(map(any, choices)) / len(choices))


def test_leak_at_k_is_unbiased_on_a_toy() -> None:
    chance, k = 0.2, 3
    rng = np.random.default_rng(5)
    estimates = [leak_at(k, 6, int((rng.random(6) < chance).sum())) for _ in range(20_000)]
    assert np.mean(estimates) == pytest.approx(1 - (1 - chance) ** k, abs=0.01)
    with pytest.raises(ValueError, match="leak@7 from 6 draws"):
        leak_at(7, 6, 0)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (9, 10), (17, 400), (0, 3000), (1500, 3000)])
def test_at_most_is_the_exact_one_sided_bound(successes: int, trials: int) -> None:
    exact = stats.beta.ppf(0.95, successes + 1, trials - successes)  # Clopper and Pearson, as a quantile of beta
    assert at_most(successes, trials) == pytest.approx(exact, rel=1e-6)
    assert at_most(0, trials) == pytest.approx(unseen([str(n) for n in range(trials)]))


def test_at_most_at_its_end_and_of_nothing() -> None:
    assert at_most(7, 7) == 1
    with pytest.raises(ValueError, match="a share of nothing"):
        at_most(0, 0)


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.001, 0.01, 0.02]), min_size=1, max_size=12))
def test_discoveries_agree_with_scipy(p_values: list[float]) -> None:
    adjusted = stats.false_discovery_control(p_values)
    clear = [abs(p - 0.05) > 1e-9 for p in adjusted]
    found = discoveries(p_values, 0.05)
    assert [one for one, sure in zip(found, clear, strict=True) if sure] == [
        bool(p <= 0.05) for p, sure in zip(adjusted, clear, strict=True) if sure
    ]
    assert discoveries([], 0.05) == []
