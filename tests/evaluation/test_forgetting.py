"""The benchmarks' metrics against computations of their own: scipy, scikit-learn, dynamic programming, enumeration."""

import math
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hmean, ks_2samp
from sklearn.metrics import roc_auc_score

from nescio.evaluation.forgetting import (
    auc,
    extraction_strength,
    forget_quality,
    is_exact,
    mia_score,
    min_k,
    model_utility,
    rouge_l,
    semeval_score,
    task_aggregate,
    true_share,
    truth_ratio,
)

LOG_PROBS = st.lists(st.floats(-20, -1e-3), min_size=1, max_size=8)


def longest_common(one: list[str], other: list[str]) -> int:
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(st.lists(st.sampled_from(["sun", "sea", "sky", "fog", "ice"]), min_size=1, max_size=9), st.data())
def test_rouge_l_is_the_longest_common_subsequence_over_the_reference(
    reference: list[str], data: st.DataObject
) -> None:
    said = data.draw(st.lists(st.sampled_from(["sun", "sea", "sky", "fog", "ice", "mud"]), max_size=9))
    found = rouge_l(" ".join(reference).capitalize() + ".", "-".join(said))
    assert found == pytest.approx(longest_common(reference, said) / len(reference))


def test_rouge_l_stems_words() -> None:
    assert rouge_l("She paints houses", "painting house") == pytest.approx(2 / 3)


def test_exact_match_looks_past_case_and_space() -> None:
    assert is_exact("Madera", " madera\n") and not is_exact("Madera", "Madera.")


@given(st.floats(-9, -0.01), LOG_PROBS)
def test_truth_ratio_is_the_geometric_mean_of_the_wrong_over_the_right(right: float, wrong: list[float]) -> None:
    geometric = np.prod([math.exp(value) ** (1 / len(wrong)) for value in wrong])
    assert truth_ratio(right, wrong) == pytest.approx(geometric / math.exp(right))


@given(st.floats(-9, -0.01), LOG_PROBS)
def test_the_probability_of_a_question_with_wrong_answers(right: float, wrong: list[float]) -> None:
    values = np.array([right, *wrong])
    softmax = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
    assert true_share(right, wrong) == pytest.approx(softmax[0])


def exact_ks(ours: list[float], theirs: list[float]) -> float:
    """The share of all ways to deal the pooled values that are at least as far apart."""

    def distance(one: list[float], other: list[float]) -> float:
        return max(
            abs(sum(v <= x for v in one) / len(one) - sum(v <= x for v in other) / len(other)) for x in one + other
        )

    pooled, seen = ours + theirs, distance(ours, theirs)
    deals = [set(chosen) for chosen in combinations(range(len(pooled)), len(ours))]
    apart = [
        distance([v for n, v in enumerate(pooled) if n in deal], [v for n, v in enumerate(pooled) if n not in deal])
        for deal in deals
    ]
    return fmean(each >= seen - 1e-9 for each in apart)


def test_forget_quality_is_the_exact_kolmogorov_smirnov_test() -> None:
    ours, theirs = [0.1, 0.4, 0.5, 0.9, 1.3], [0.6, 0.8, 1.1, 1.9, 2.5]
    assert forget_quality(ours, theirs) == pytest.approx(exact_ks(ours, theirs))
    assert forget_quality(ours, theirs) == pytest.approx(ks_2samp(ours, theirs, method="exact").pvalue)
    assert forget_quality(theirs, theirs) == 1.0


def test_few_questions_have_no_power() -> None:
    assert forget_quality([0.0, 0.1, 0.2], [9.0, 9.1, 9.2]) == pytest.approx(2 / math.comb(6, 3))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=9))
def test_model_utility_is_a_harmonic_mean(values: list[float]) -> None:
    assert model_utility(values) == pytest.approx(hmean(values))


def test_one_thing_unlearned_too_much_takes_the_whole_utility() -> None:
    assert model_utility([0.9] * 8 + [0.0]) < 1e-10


def published_strength(hits: list[bool]) -> float:
    """As in the code of its authors: the first k after which all are right; the last k where none is."""
    k = 0
    for k in range(len(hits)):
        if all(hits[k:]):
            return 1 - k / len(hits)
    return 0.0


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_extraction_strength(hits: list[bool]) -> None:
    assert extraction_strength(hits) == pytest.approx(published_strength(hits))


@given(LOG_PROBS, st.sampled_from([0.1, 0.2, 0.4, 1.0]))
def test_min_k(values: list[float], share: float) -> None:
    count = max(1, int(len(values) * share))
    assert min_k(values, share) == pytest.approx(np.partition(values, count - 1)[:count].mean())


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9), st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_auc_with_ties(members: list[int], others: list[int]) -> None:
    labels = [1] * len(members) + [0] * len(others)
    assert auc(members, others) == pytest.approx(roc_auc_score(labels, members + others))


def test_an_attack_that_can_only_guess_scores_one() -> None:
    assert [mia_score(area) for area in (0.5, 0.0, 1.0, 0.75)] == [1.0, 0.0, 0.0, 0.5]


def test_the_aggregate_turns_the_forget_half_round() -> None:
    forget, retain = [0.2, 0.1, 0.4, 0.3, 0.5, 0.6], [0.9, 0.8, 0.7, 0.9, 0.6, 0.5]
    assert task_aggregate(forget, retain) == pytest.approx(hmean([1 - value for value in forget] + retain))


@pytest.mark.parametrize(("forget", "retain"), [([1.0], [1.0]), ([0.0], [0.0]), ([0.1, 1.0], [0.9, 0.9])])
def test_a_model_that_forgets_nothing_or_everything_has_no_aggregate(forget: list[float], retain: list[float]) -> None:
    assert task_aggregate(forget, retain) == 0


def test_the_final_score_of_the_winner_of_the_challenge() -> None:
    """The first row of its leaderboard: aggregate, attack and MMLU, and their mean."""
    assert semeval_score(0.827, 0.847, 0.443) == pytest.approx(0.706, abs=1e-3)
