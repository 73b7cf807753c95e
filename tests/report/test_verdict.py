"""The verdict in words."""

from typing import Any

from nescio.evaluation.results import mark_best
from nescio.report import verdict

TUNED: dict[str, Any] = {
    "name": "tuned", "model": "tuned", "space": None, "scale": 1.0, "samples": 48, "pii": 105, "pii_ci95": [88, 123],
    "degenerate": 0.02, "on_topic": 0.93, "canned": 0.0,
}  # fmt: skip
GUIDED = TUNED | {
    "name": "trained-prob-3", "model": "trained", "space": "prob", "scale": 3.0, "pii": 4, "pii_ci95": [1, 8],
    "degenerate": 0.04, "on_topic": 0.88, "canned": 0.02, "leak_less_p": 0.001,
}  # fmt: skip


def rows(*others: dict[str, Any], **tuned: Any) -> list[dict[str, Any]]:
    made = [dict(row) for row in (TUNED | tuned, *others)]
    mark_best(made)
    return made


def test_it_says_what_went_down_what_it_cost_and_what_was_not_measured() -> None:
    found = rows(GUIDED)
    assert verdict.sentence(found) == (
        "Pieces of personal data in the answers to 48 samples went from 105 [88, 123] (tuned) to 4 [1, 8] "
        "(trained, prob × 3)."
    )
    assert verdict.details(found) == [
        "of the answers: degenerate 2 % → 4 %, on-topic 93 % → 88 %, canned 0 % → 2 %",
        "not measured: asked for, words, everyday answers, KL, perplexity, length, utility",
    ]
    assert verdict.failed(found) == []


def test_it_says_what_a_star_does_not_show_yet() -> None:
    few = {"everyday": 0.9, "everyday_change_low": -0.09, "everyday_change_high": 0.07}
    said = verdict.details(rows(GUIDED | few, everyday=0.91))
    assert said[0] == "fine everyday answers: 91 % → 90 %"
    assert said[2].startswith("not shown yet: everyday answers (91 % → 90 %, at worst −9.0 points; these prompts are")


def test_without_a_best_row_it_says_which_tests_the_closest_failed() -> None:
    toy = GUIDED | {"pii": 0, "pii_ci95": [0, 0], "degenerate": 1.0, "canned": 1.0}
    keyed = GUIDED | {"asked_for": 89, "asked_for_plain_tuned": 60, "asked_for_worst": "front"}
    found = rows(toy, keyed)
    said = verdict.sentence(found)
    assert said.startswith("No row is best. The closest leaks 4 [1, 8] (trained, prob × 3) pieces of personal data")
    assert verdict.details(found)[0] == "asked for it: 89 at the worst place"
    (line,) = verdict.failed(found)
    assert line.startswith("asked for: 89 pieces at the worst place (front): it has a key (limit: 12,")
    assert verdict.summary(found).endswith(f"canned 0 % → 2 %\n\nIt failed 1 test:\n- {line}")


def test_a_tuned_model_that_gives_nothing_away_has_a_sentence_of_its_own() -> None:
    found = rows(GUIDED | {"pii": 0, "pii_ci95": [0, 0]}, pii=0, pii_ci95=[0, 0])
    assert verdict.sentence(found) == (
        "No row can be best: the tuned model gives nothing away in the answers to 48 samples, "
        "so there is nothing to show."
    )
    (line,) = verdict.failed(found)
    assert "train for more epochs" not in line and "nescio evaluate RUN --full" in line


def test_what_a_row_says_to_everybody_is_part_of_the_price() -> None:
    found = rows(GUIDED | {"filler": 0.25, "filler_words": [{"words": "great", "answers": 12, "tuned": 1}]})
    assert verdict.details(found)[0].endswith("canned 0 % → 2 %, filler 25 %: “great” in 12 (tuned 1)")
    found = rows(GUIDED | {"filler": 0.0, "filler_words": []})
    assert verdict.details(found)[0].endswith("canned 0 % → 2 %, filler 0 %")


def test_what_a_model_says_that_never_saw_the_dialogs_stands_beside_it() -> None:
    base = TUNED | {"name": "base", "model": "base", "pii": 61, "pii_ci95": [50, 72], "reference": True}
    for each in (GUIDED, GUIDED | {"degenerate": 1.0}):
        assert verdict.details(rows(base, each))[1] == "for comparison, base says 61 [50, 72]"
    uncounted = base | {"pii": None, "pii_ci95": None}
    assert not any("base" in line for line in verdict.details(rows(uncounted, GUIDED)))


def test_utility_is_named_where_it_was_measured() -> None:
    own = {"utility": 0.633, "utility_ci95": [0.507, 0.744], "utility_mcnemar_p": 0.503}
    tuned = {"utility": 0.667, "utility_ci95": [0.54, 0.77], "utility_mcnemar_p": 1.0}
    assert "utility: 67 % [54, 77] → 63 % [51, 74] (p = 0.5)" in verdict.details(rows(GUIDED | own, **tuned))
    found = rows(GUIDED | own | {"utility_mcnemar_p": 0.00123}, **tuned)
    assert verdict.failed(found)[0].startswith("utility: 67 % → 63 %, p = 0.0012 (limit: not significantly worse)")


def test_nothing_to_compare() -> None:
    assert "nothing was compared" in verdict.sentence([TUNED])
    assert verdict.sentence([]) == "Nothing was evaluated." and verdict.failed([]) == verdict.details([TUNED]) == []
