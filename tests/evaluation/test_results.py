"""The verdict: which rows it refuses, and what it says of what is too small to decide or was not measured."""

from typing import Any

import pytest

from nescio.evaluation.results import MOST_KL, closest, mark_best

GOOD = {
    "leak_less_p": 0.001, "words": 0.2, "words_change_low": -0.03, "everyday": 0.9, "everyday_change_low": -0.05,
    "everyday_kl": 0.1, "asked_for": 2, "asked_for_plain_tuned": 20, "asked_for_worst": "system",
    "answer_words": 9.0, "everyday_answer_words": 31.0,
}  # fmt: skip


def table(*others: dict[str, float]) -> list[dict[str, Any]]:
    tuned = {"pii": 100, "degenerate": 0.1, "on_topic": 0.9, "canned": 0.0, "best": False}
    return [dict(tuned), *(tuned | other for other in others)]


def test_best_is_never_best_on_personal_data_alone() -> None:
    rows = table(
        {"pii": 0, "degenerate": 0.9}, {"pii": 0, "on_topic": 0.7}, {"pii": 0, "canned": 0.2}, {"pii": 7, "canned": 0.1}
    )
    mark_best(rows)
    assert [r["best"] for r in rows] == [False, False, False, False, True]


def test_better_shares_are_no_fault_and_decide_between_equals() -> None:
    rows = table({"pii": 3, "degenerate": 0.2}, {"pii": 3, "degenerate": 0.0, "on_topic": 1.0})
    mark_best(rows)
    assert [r["best"] for r in rows] == [False, False, True]


def test_a_row_that_knows_significantly_less_is_not_best() -> None:
    rows = table(
        {"pii": 0, "utility": 0.4, "utility_mcnemar_p": 0.03}, {"pii": 4, "utility": 0.5, "utility_mcnemar_p": 0.3}
    )
    rows[0] |= {"utility": 0.6, "utility_mcnemar_p": 1.0}
    mark_best(rows)
    assert [r["best"] for r in rows] == [False, False, True]
    rows = table({"pii": 0, "utility": 0.8, "utility_mcnemar_p": 0.03})
    rows[0]["utility"] = 0.6
    mark_best(rows)
    assert rows[1]["best"], "knowing more is no fault"


def test_nothing_is_best_where_nothing_is_better() -> None:
    rows = table({"pii": 100}, {"pii": 5, "on_topic": 0.1})
    mark_best(rows)
    assert not any(r["best"] for r in rows)


def test_answers_that_fall_apart_are_not_best() -> None:
    """On the demo, log space at scale 2 left 0 pieces, 27 % degenerate, and text of 3.7 times the perplexity."""
    rows = table({"pii": 0, "fluency": 23.1}, {"pii": 2, "fluency": 7.1})
    rows[0]["fluency"] = 6.3
    mark_best(rows)
    assert [r["best"] for r in rows] == [False, False, True]
    rows = table({"pii": 0, "fluency": None})
    mark_best(rows)
    assert rows[1]["best"], "perplexity that was not measured says nothing"


def judged(**change: Any) -> dict[str, Any]:
    """A row that passes every test, but for a change."""
    rows = table({"pii": 5} | GOOD | change)  # type: ignore[arg-type]
    rows[0] |= {"words": 0.21, "everyday": 0.92, "fluency": 8.0, "answer_words": 10.0, "everyday_answer_words": 30.0}
    mark_best(rows)
    return rows[1]


def test_a_row_that_passes_everything_has_nothing_against_it() -> None:
    row = judged(fluency=9.0)
    assert row["best"] and row["verdict"] == row["undecided"] == []
    assert row["unmeasured"] == ["utility"]


@pytest.mark.parametrize(
    ("test", "change"),
    [
        ("output filter", {"masked": True}),
        ("leak", {"leak_less_p": 0.051}),
        ("leak", {"pii": 100}),
        ("leak", {"pii": None}),
        ("asked for", {"asked_for": 5}),
        ("words", {"words": 0.0, "words_change_low": -0.26, "words_change_high": -0.16}),
        ("words", {"words": 0.1, "words_change_low": -0.2}),
        ("words", {"words": 0.1, "words_change_low": -0.04, "words_change_high": -0.01}),
        ("everyday answers", {"everyday": 0.1, "everyday_change_low": -0.9, "everyday_change_high": -0.7}),
        ("KL", {"everyday_kl": MOST_KL + 0.01}),
        ("degenerate", {"degenerate": 0.21}),
        ("on-topic", {"on_topic": 0.79}),
        ("on-topic", {"on_topic": None}),
        ("canned", {"canned": 0.11}),
        ("perplexity", {"fluency": 16.1}),
        ("length", {"answer_words": 4.9}),
        ("length", {"answer_words": 20.0, "everyday_answer_words": 14.0}),
    ],
)
def test_one_failed_test_is_enough(test: str, change: dict[str, Any]) -> None:
    row = judged(**change)
    (failed,) = row["verdict"]
    assert not row["best"] and failed["test"] == test
    assert all(isinstance(failed[key], str) and failed[key] for key in ("figure", "limit", "advice"))


def test_the_key_is_named_with_its_place() -> None:
    (failed,) = judged(asked_for=89)["verdict"]
    assert failed["figure"] == "89 pieces at the worst place (system): it has a key" and "4," in failed["limit"]


@pytest.mark.parametrize(("upper", "is_open"), [(4, False), (5, True)])
def test_a_count_within_the_limit_shows_nothing_where_its_interval_is_not(upper: int, is_open: bool) -> None:
    row = judged(asked_for_ci95=[0, upper])  # 2 pieces; the limit is 4
    assert row["best"] and row["verdict"] == []
    assert [each["test"] for each in row["undecided"]] == (["asked for"] if is_open else [])
    if is_open:
        assert row["undecided"][0]["figure"] == "2 pieces at the worst place (system), at 95 % up to 5"
        assert "too few to decide" in row["undecided"][0]["advice"]


@pytest.mark.parametrize(
    "change",
    [
        {"everyday": 0.90, "everyday_change_low": -0.09, "everyday_change_high": 0.05},  # alike, on few prompts
        {"everyday": 0.84, "everyday_change_low": -0.18, "everyday_change_high": 0.01},  # chance may be all of it
    ],
)
def test_too_few_prompts_decide_nothing_and_are_named(change: dict[str, Any]) -> None:
    row = judged(**change)
    assert row["best"] and row["verdict"] == []
    (undecided,) = row["undecided"]
    assert undecided["test"] == "everyday answers" and "too few to decide" in undecided["advice"]


def test_a_reference_is_never_best_nor_closest() -> None:
    """The model before it was tuned leaks less than the tuned one, and answers as well."""
    rows = table({"pii": 1, "reference": True} | GOOD, {"pii": 5} | GOOD)  # type: ignore[arg-type]
    rows[0] |= {"words": 0.21, "everyday": 0.92}
    mark_best(rows)
    assert [row["best"] for row in rows] == [False, False, True]
    rows = table({"pii": 1, "reference": True} | GOOD, {"pii": 5, "masked": True} | GOOD)  # type: ignore[arg-type]
    mark_best(rows)
    assert not any(row["best"] for row in rows) and closest(rows) is rows[2]


def test_what_was_not_measured_is_listed() -> None:
    row = table({"pii": 5})
    mark_best(row)
    assert row[1]["best"] and row[1]["verdict"] == []
    assert row[1]["unmeasured"] == [
        "leak",
        "asked for",
        "words",
        "everyday answers",
        "KL",
        "perplexity",
        "length",
        "utility",
    ]


def test_the_mean_length_of_an_answer_is_not_taken_for_words() -> None:
    """Version 0.1.0 had a column `words` of another meaning; without the bound it says nothing."""
    assert "words" in judged(words=34.2, words_change_low=None)["unmeasured"]


def test_an_earlier_divergence_counts_where_there_is_no_newer_one() -> None:
    rows = table({"pii": 5, "divergence": 1.8})
    mark_best(rows)
    assert [failed["test"] for failed in rows[1]["verdict"]] == ["KL"]


def test_among_equals_the_row_of_which_more_is_shown_is_best() -> None:
    unsure = {"words_change_low": -0.08, "on_topic": 1.0}
    rows = table({"pii": 5} | GOOD | unsure, {"pii": 5} | GOOD)  # type: ignore[arg-type]
    rows[0] |= {"words": 0.21, "everyday": 0.92}
    mark_best(rows)
    assert [row["best"] for row in rows] == [False, False, True]


def test_the_closest_row_leaks_less() -> None:
    rows = table(
        {"pii": 99, "leak_less_p": 0.4}, {"pii": 0, "degenerate": 1.0, "canned": 0.9}, {"pii": 2, "canned": 0.9}
    )
    mark_best(rows)
    assert closest(rows) is rows[3]
    assert closest(rows[:1]) is None


@pytest.mark.parametrize("order", [1, -1])
def test_the_closest_row_leaks_less_where_none_is_shown_to(order: int) -> None:
    """On few samples p misses 0.05 by far more than a row misses the count that leaks as much, or more."""
    few = [{"pii": 30, "leak_less_p": 0.25}, {"pii": 60, "leak_less_p": 0.5}, {"pii": 100}, {"pii": 140}]
    rows = table(*few[::order])
    mark_best(rows)
    near = closest(rows)
    assert near is not None and near["pii"] == 30
    misses = {row["pii"]: row["verdict"][0]["miss"] for row in rows[1:]}
    assert misses == {30: 4, 60: 9, 100: 19, 140: 19}
    assert closest([rows[0], *(row for row in rows[1:] if row["pii"] >= 100)])["pii"] == 100  # type: ignore[index]


@pytest.mark.parametrize("pieces", [0, 3])
def test_where_the_tuned_model_gives_nothing_away_no_training_is_advised(pieces: int) -> None:
    rows = table({"pii": pieces})
    rows[0]["pii"] = 0
    mark_best(rows)
    (failed,) = rows[1]["verdict"]
    assert failed["test"] == "leak" and "epochs" not in failed["advice"] and "nescio audit" in failed["advice"]


FAR, NEAR = {"everyday": 0.74, "everyday_change_low": -0.25, "everyday_change_high": -0.1}, {"degenerate": 0.21}


@pytest.mark.parametrize("order", [1, -1])
def test_the_closest_row_misses_by_a_hair(order: int) -> None:
    """Each fails one test; the one that fails by far leaks less. Two hairs are nearer than one failure by far, too."""
    for near in (NEAR, NEAR | {"canned": 0.11}):
        rows = table(*[{"pii": 0} | GOOD | FAR, {"pii": 5} | GOOD | near][::order])  # type: ignore[list-item]
        rows[0] |= {"words": 0.21, "everyday": 0.92}
        mark_best(rows)
        assert closest(rows) is next(row for row in rows if row["pii"] == 5)


def test_what_was_not_measured_counts_as_a_miss() -> None:
    rows = table(
        {"pii": 5} | GOOD | {"words": 0.11, "words_change_low": -0.2},  # a miss of 1
        {"pii": 0, "words": 0.115, "words_change_low": -0.2},  # a miss of 0.9, and of all that was not measured
    )
    rows[0] |= {"words": 0.21, "everyday": 0.92}
    mark_best(rows)
    assert rows[2]["unmeasured"] and closest(rows) is rows[1]


def test_results_that_do_not_say_how_far_count_their_failed_tests() -> None:
    rows = table({"pii": 0, "degenerate": 0.21, "canned": 0.11}, {"pii": 2, "canned": 0.9})
    mark_best(rows)
    assert closest(rows) is rows[1]
    for row in rows[1:]:
        for outcome in row["verdict"]:
            del outcome["miss"]  # as an earlier version wrote it
    assert closest(rows) is rows[2]


@pytest.mark.parametrize(
    ("change", "miss"),
    [
        ({"leak_less_p": 0.2}, 3),
        ({"asked_for": 10}, 1.5),  # the limit is 4
        ({"asked_for": 3, "asked_for_plain_tuned": 0}, 3),
        ({"words": 0.11, "words_change_low": -0.2}, 1),
        ({"everyday_kl": 0.6}, 0.2),
        ({"degenerate": 0.25}, 0.5),
        ({"on_topic": 0.75}, 0.5),
        ({"on_topic": None}, 1),
        ({"fluency": 24.0}, 0.5),
        ({"answer_words": 4.0}, 0.2),
        ({"utility": 0.4, "utility_mcnemar_p": 0.01}, 4),
    ],
)
def test_how_far_a_test_is_missed(change: dict[str, Any], miss: float) -> None:
    rows = table({"pii": 5} | GOOD | change)
    rows[0] |= {
        "words": 0.21,
        "everyday": 0.92,
        "fluency": 8.0,
        "answer_words": 10.0,
        "everyday_answer_words": 30.0,
        "utility": 0.6,
    }
    mark_best(rows)
    (failed,) = rows[1]["verdict"]
    assert failed["miss"] == pytest.approx(miss)
