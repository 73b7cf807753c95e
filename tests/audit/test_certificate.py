"""The certificate in a sentence: what holds, what does not, and what was asked too little about."""

import pytest

from nescio.audit.certificate import sentence

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
