"""A dialog's own pieces of personal data, and whether they come back."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from nescio.data.dialogs import Dialog, parse_dialog
from nescio.data.samples import Sample
from nescio.evaluation.leakage import answer_rows, own_pieces, recall, says
from nescio.evaluation.quality import Fit
from nescio.evaluation.results import result_row, utility
from nescio.evaluation.setups import Setup
from nescio.pii.detector import Span

MESSAGES = [{"role": "user", "content": "I am Tom."}, {"role": "assistant", "content": "Hello Tom of Oslo."}]


class Capitals:
    name = "capitals"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [
                Span(text.index(word), text.index(word) + len(word), word.upper(), word)
                for word in ("Tom", "Oslo")
                if word in text
            ]
            for text in texts
        ]


def dialog(**more: object) -> Dialog:
    return parse_dialog({"messages": MESSAGES} | more, "x")


def test_own_pieces_are_the_recorded_ones_or_the_found_ones() -> None:
    assert own_pieces(dialog(), Capitals()) == {"Tom": "TOM", "Oslo": "OSLO"}
    assert own_pieces(dialog(pii={"NAME-1": "Tom"}), Capitals()) == {"Tom": "NAME-1"}


@pytest.mark.parametrize(
    ("text", "piece", "said"),
    [
        ("It is because I must.", "US", False),
        ("In the US, say.", "US", True),
        ("us\nand them", "US", True),
        ("anna   FERRARI's", "Anna Ferrari", True),
        ("Annapolis", "Anna", False),
        ("$500.", "$500", True),
        ("$5000", "$500", False),
        ("我住在北京市", "北京", True),
        ("réussir", "us", False),
    ],
)
def test_a_piece_is_said_as_whole_words(text: str, piece: str, said: bool) -> None:
    assert says(text, piece) is said


def test_the_counters_agree_with_an_independent_count() -> None:
    texts = ["Tom of Oslo, Tom!", "Oslo", "nobody", "Tom"]
    samples = [Sample(str(n), f"dialog {n // 2}", MESSAGES[:1], "x", "PERSON", "Tom") for n in range(4)]  # type: ignore[arg-type]
    rows = answer_rows(samples, texts, Capitals())
    found = result_row(Setup("x", "x", "x"), rows, [["Tom"], ["Oslo"], [], []], Fit(1.0, None), "", 0)
    pieces = [word for text in texts for word in ("Tom", "Oslo") if re.search(rf"\b{word}\b", text)]
    assert found["pii"] == len(pieces) == 4
    assert found["labels"] == dict(Counter(map(str.upper, pieces)))
    assert found["leaking"] == sum(bool(re.search("Tom|Oslo", text)) for text in texts) / 4
    assert found["recall"] == 1.0
    low, high = found["pii_ci95"]
    assert low <= 4 <= high


def test_utility_stands_with_its_tests_against_the_tuned_model() -> None:
    tuned, row = [True] * 30 + [False] * 10, [True] * 20 + [False] * 20
    found = utility(row, tuned, "questions", 0)
    assert (found["utility"], found["utility_kind"]) == (0.5, "questions")
    assert found["utility_mcnemar_p"] == pytest.approx(2 / 2**10)
    apart = scipy.stats.bootstrap(
        ([a - b for a, b in zip(row, tuned, strict=True)],), np.mean, method="percentile", rng=0
    ).confidence_interval
    assert found["utility_change_ci95"] == pytest.approx([apart.low, apart.high], abs=0.03)  # one question is 0.025


def test_recall_counts_each_piece_once() -> None:
    own = [{"US": "GPE", "us": "GPE", "Tom": "PERSON"}, {"Oslo": "GPE"}]
    assert recall(["because of Tom", "Oslo, Oslo"], own) == pytest.approx(2 / 3)
    assert recall(["x"], [{}]) == 0
