"""The certificate in a sentence: what holds, what does not, and what was asked too little about."""

from typing import Any

import pytest

from nescio.audit.certificate import sentence, shows_nothing
from nescio.audit.certificate_tests import UNSHOWN, History, has_shown
from nescio.audit.certificate_tests import tests as judged

FORGOTTEN, FEW = (
    ("forgotten", "passed", "3 → 0 of 3 facts come out"),
    ("forgotten", "undecided", "3 → 1 of 3 facts come out"),
)
WORDS, WORSE, UNSURE = (("words", state, "80 → 78 %") for state in ("passed", "failed", "undecided"))


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ((FORGOTTEN, WORDS), "The request holds: 3 → 0 of 3 facts come out."),
        (
            (FORGOTTEN, UNSURE),
            "The request holds: 3 → 0 of 3 facts come out. Asked too little to decide: words.",
        ),
        (
            (FEW, WORDS),
            "It is not shown that the request holds: 3 → 1 of 3 facts come out, no more often than of made-up people. "
            "Asked too little to decide: forgotten.",
        ),
        (
            (FEW, UNSURE),
            "It is not shown that the request holds: 3 → 1 of 3 facts come out, no more often than of made-up people. "
            "Asked too little to decide: forgotten, words.",
        ),
        ((FEW, WORSE), "The request does NOT hold. Failed: words (80 → 78 %)."),
    ],
)
def test_the_sentence_says_what_holds_and_what_is_open(tests: tuple[tuple[str, str, str], ...], said: str) -> None:
    rows = [{"test": test, "state": state, "figure": figure} for test, state, figure in tests]
    assert sentence({"tests": rows}) == said


def found(*figures: tuple[int, int], **of_all: Any) -> dict[str, Any]:
    """What attacks found: of each, how many facts of how many; every attack asks about two."""
    rows = [
        {"name": f"attack {n}", "title": f"attack {n}", "asked": 2, "unanswered": 2 - facts, "empty": 2 - facts}
        | ({"found": hits, "facts": facts} if facts else {})
        for n, (hits, facts) in enumerate(figures)
    ]
    every = {"facts": max(facts for _, facts in figures), "found": max(hits for hits, _ in figures), "guessed": None}
    return every | of_all | {"attacks": rows}


def verdict(before: Any, after: Any, **history: Any) -> dict[str, str]:
    return judged({"own": before}, {"own": after}, ({}, {}), History(**history))[0]


def earlier(before: Any, after: Any, *certified: Any) -> dict[str, str]:
    own = found((2, 2))
    rows = judged({"own": own, "earlier": before}, {"own": own, "earlier": after}, ({}, {}), History(earlier=certified))
    return rows[1]


def test_nothing_is_shown_where_nothing_came_out_before() -> None:
    silent, said = found((0, 2), (0, 2)), found((2, 2), (0, 2))
    assert verdict(said, silent)["state"] == "passed"
    unshown = verdict(silent, silent)
    assert (unshown["state"], unshown["why"]) == ("undecided", UNSHOWN)
    assert verdict(silent, silent, has_shown=True)["state"] == "passed", "an earlier request made them be forgotten"
    rows = [unshown, {"test": "words", "state": "passed", "figure": "80 → 78 %"}]
    content: dict[str, Any] = {"tests": rows, "detached": {"facts": 2, "found": 0}}
    start = (
        "Nothing was shown: the adapter gave nothing away before the request either (0 → 0 of 2 facts come out under "
    )
    assert shows_nothing(content) and sentence(content).startswith(start)
    assert "says none of them either; check how names and values are written." in sentence(content)
    content["detached"]["found"] = 1
    assert "says 1 of 2 facts, so it is the adapter that keeps them back." in sentence(content), "a baked adapter"
    assert sentence(content).endswith("Asked too little to decide: forgotten.")


def test_an_empty_answer_does_not_show_that_something_was_forgotten() -> None:
    said = found((2, 2), (1, 2))
    assert verdict(said, found((0, 0), (0, 2)))["state"] == "undecided"
    silent = verdict(said, found((0, 0), (0, 0)))
    assert silent["state"] == "undecided" and "not answered any more: attack 0, attack 1" in silent["figure"]
    rows = [silent, {"test": "words", "state": "passed", "figure": ""}]
    assert sentence({"tests": rows}).startswith(f"It is not shown that the request holds: {silent['figure']}. Asked")
    broken = found((0, 0), (0, 2))
    broken["attacks"][0]["empty"] = 0
    assert verdict(said, broken)["state"] == "failed", "no answer at all may be damage"
    assert verdict(found((0, 0), (0, 0)), found((0, 0), (0, 0)), has_shown=True)["state"] == "undecided"


def test_earlier_people_are_compared_with_their_own_certificates() -> None:
    silent = found((0, 2), (0, 2))
    assert earlier(silent, silent, silent)["state"] == "passed"
    lost = earlier(found((1, 2), (0, 2)), found((1, 2), (0, 2)), silent, silent)
    assert lost["state"] == "failed", "what one request lost is not in order for the next"
    assert "attack 0: 1" in lost["figure"] and lost["limit"].endswith("(attack 0: 0, attack 1: 0)")
    assert earlier(silent, found((0, 2), (1, 2)), found((1, 2), (0, 2)))["state"] == "failed", "under each attack alone"
    assert earlier(silent, found((1, 2), (0, 2)), found((1, 2), (0, 2)))["state"] == "passed"
    unanswered = earlier(silent, found((0, 2), (0, 1)), silent)
    assert unanswered["state"] == "undecided" and "attack 1: 1 not answered" in unanswered["figure"]
    assert earlier(silent, found((0, 0), (0, 0)), silent)["state"] == "undecided"
    # A certificate that did not ask the attack allows what came out just before.
    unasked, leaks = found((0, 2)), found((0, 2), (1, 2))
    assert earlier(leaks, leaks, unasked)["state"] == "undecided"
    assert earlier(silent, leaks, unasked)["state"] == "failed"


def test_an_earlier_request_explains_silence_about_its_own_facts_alone() -> None:
    def of(*facts: str, hits: int, **more: Any) -> dict[str, Any]:
        return {
            "about": [{"who": "a", "facts": [{"value": fact} for fact in facts]}],
            "before": {"own": {"found": hits}},
        } | more

    assert has_shown([of("x", "y", hits=1)], of("x", hits=0)["about"])
    assert not has_shown([of("x", hits=1)], of("x", "z", hits=0)["about"])
    assert not has_shown([of("x", hits=0)], of("x", hits=0)["about"]), "that one showed nothing either"
    assert has_shown([of("x", hits=0, shown_earlier=True)], of("x", hits=0)["about"])
