"""One line where words and the likelihood of options, or the judge, do not tell the same story."""

from typing import Any

import pytest

from nescio.report.disagreement import disagreements

TUNED: dict[str, Any] = {"model": "tuned", "words": 0.21, "utility": 0.73, "judged": 0.5}


def row(words: tuple[float, float], utility: tuple[float, float], **more: Any) -> dict[str, Any]:
    return {
        "model": "trained", "words": words[0], "words_mcnemar_p": words[1], "utility": utility[0],
        "utility_mcnemar_p": utility[1], **more,
    }  # fmt: skip


def test_a_collapse_that_likelihood_does_not_see_is_said() -> None:
    (line,) = disagreements([TUNED, row((0.0, 1e-9), (0.6, 0.08))])
    assert line == (
        "trained, unguided: words fell (21 % → 0 %, p = 1e-09), utility by likelihood of options did not (73 % → 60 %, "
        "p = 0.08)."
    )


def test_the_reverse_and_the_judge_are_said_too() -> None:
    (line,) = disagreements([TUNED, row((0.2, 0.9), (0.4, 0.001))])
    assert "utility by likelihood of options fell (73 % → 40 %, p = 0.001), words did not (21 % → 20 %" in line
    judged = row((0.0, 0.001), (0.4, 0.001), judged=0.49, judged_mcnemar_p=0.8)
    (line,) = disagreements([TUNED, judged])
    assert "words fell" in line and "the judge's share did not (50 % → 49 %" in line


@pytest.mark.parametrize(
    "agreeing",
    [row((0.0, 0.001), (0.4, 0.001)), row((0.2, 0.9), (0.7, 0.9)), row((0.3, 0.01), (0.7, 0.9)), {"model": "trained"}],
)
def test_nothing_is_said_where_they_agree_or_were_not_measured(agreeing: dict[str, Any]) -> None:
    assert disagreements([TUNED, agreeing]) == [] == disagreements([TUNED])
