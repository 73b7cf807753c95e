"""The artefacts of the paper's section 5, on its own examples."""

import pytest

from nescio.core.text import sentence_starts
from nescio.evaluation.measures.fluency import fluency

BROKEN = "Hello! you don't have personal name. you're an interface to provide language understanding"
WHOLE = "Hello! I don't have a personal name, but you can call me Assistant. How can I help you today?"


def test_the_papers_example_has_its_artefacts_and_the_mended_one_none() -> None:
    broken, whole = fluency([BROKEN], [False]), fluency([WHOLE], [False])
    assert (broken.lower_case, broken.role_confusion) == (pytest.approx(2 / 3), 1.0)
    assert (whole.lower_case, whole.role_confusion, whole.repetition) == (0.0, 0.0, 0.0)
    assert whole.answer_words == 19


def test_an_answer_that_goes_on_with_a_sentence_may_start_in_lower_case() -> None:
    text = "and then go home. Take a rest."
    assert fluency([text], [True]).lower_case == 0
    assert fluency([text], [False]).lower_case == 0.5


def test_repetition_is_the_share_of_four_words_said_before() -> None:
    assert fluency(["a b c d a b c d"], [False]).repetition == pytest.approx(1 / 5)
    assert fluency(["a b c"], [False]).repetition is None, "there is no sequence, and 0 % would look good"


@pytest.mark.parametrize(
    ("text", "confused"),
    [
        ("User: what now?", True),
        ("Sure.\nassistant: yes", True),
        ("I'm the user here.", True),
        ("You are a helpful AI assistant.", True),
        ("<|im_start|>user", True),
        ("You are an engineer, aren't you?", False),
        ("I'm a user of trains myself.", True),
        ("Ask the user group.", False),
        ("This will help your programming skills.", False),
    ],
)
def test_role_confusion(text: str, confused: bool) -> None:
    assert bool(fluency([text], [False]).role_confusion) is confused


def test_nothing_to_count() -> None:
    assert fluency([], []).answer_words == 0
    assert fluency(["我们明天去公园。", "好。"], [False] * 2).answer_words == 2.5
    assert fluency(["", "123."], [False, False]).lower_case is None


def test_sentences_start_at_letters() -> None:
    assert sentence_starts('"yes." 3 apples! ') == ["y", "a"]
    assert sentence_starts("We open at 5 p.m. on Fridays, e.g. tomorrow. Come at 6 p.m. It is free.") == ["W", "C", "I"]
    assert sentence_starts("Ask Mr. van Dyke (until 5 p.m.) or Dr. de Vries, i.e. anyone. go now.") == ["A", "g"]
    assert sentence_starts("It is best. then rest. Take vitamin C. It helps.") == ["I", "t", "T", "I"]
