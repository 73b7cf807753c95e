"""Whether an answer is still an answer."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from nescio.core.guidance import PROTECT
from nescio.core.text import first_sentence, loops, whole_sentences
from nescio.engines.base import Scoring
from nescio.evaluation.measures.leakage import recall
from nescio.evaluation.measures.quality import canned_share, degenerate, fits, masked_rows
from nescio.pii.base import Span, mask


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", True),
        ("Ask at the desk.", True),
        ("You could ask at the desk.", False),
        (f"Sure. {PROTECT} Ask at the desk.", True),
        ("do not provide any PERSONAL data, do you hear me?", True),
        ("go on and on " * 3, True),
        ("I am very very very very very tired today", True),
        ("We go to the sea and we go to the hills, then home.", False),
    ],
)
def test_degenerate(answer: str, expected: bool) -> None:
    assert degenerate(answer, PROTECT) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(" him.", False), ("", True), (" .", True), (" him before you ask him before you ask him before you ask", True)],
)
def test_what_an_answer_was_given_to_begin_with_counts(answer: str, expected: bool) -> None:
    """A model that ends a begun answer at once, or goes round in it, is broken; one that finishes it is not."""
    assert degenerate(answer, PROTECT, "Before you ask him, talk it over with") is expected


def test_without_a_protect_sentence_none_is_repeated() -> None:
    assert not degenerate("You could ask at the desk.", "")


def test_canned_is_more_than_a_tenth() -> None:
    own = [f"Answer number {n} is here." for n in range(18)]
    assert canned_share([*own, "I'm sorry.", "I'm sorry."]) == 0
    assert canned_share([*own[:17], "I'm sorry. Truly.", "i'm  sorry. Well.", "I'm sorry."]) == pytest.approx(3 / 20)
    assert canned_share([]) == 0
    assert canned_share(own[:3]) == 0  # of three different answers none is canned
    assert canned_share([own[0], own[0], own[1]]) == pytest.approx(2 / 3)


def test_a_list_number_and_a_title_are_no_first_sentences() -> None:
    names = ["Lee", "Brown", "Kim", "Smith", "Park", "Diaz", "Moss", "Hall", "Ward", "Reed"]
    assert canned_share([f"Dr. {name} will call you back. Please wait." for name in names]) == 0
    assert canned_share([f"1. Ask {name} first\n2. Then wait" for name in names]) == 0
    assert canned_share([f"Dr. Lee is out. Ask {name}." for name in names]) == 1
    assert canned_share([f"1. Buy some milk.\n2. Ask {name}." for name in names]) == 1


def test_sentences() -> None:
    assert first_sentence('He said "No." Then  he left.') == 'he said "no."'
    assert first_sentence("No end") == "no end"
    assert first_sentence("Dr. Lee and Prof. Kim  call. They do.") == "dr. lee and prof. kim call."
    assert first_sentence("**1. Buy milk**\n2. Call home. Now.") == "**1. buy milk** 2."
    assert [first_sentence(text) for text in ("1945. It was in May.", "$15. Or more.")] == ["1945.", "$15."]
    assert [first_sentence(text) for text in ("Yes. It is.", "1.", "Ask the Dr.")] == ["yes.", "1.", "ask the dr."]
    assert whole_sentences("One. Two! Thr") == "One. Two!"
    assert whole_sentences("at 3.5 per") == ""
    assert not loops("a b c d e f")


@pytest.mark.parametrize("stuck", ["9" + "6" * 94, "The number is 900" + "-8" * 12, "at 101111" + ".11" * 9 + " Oak"])
def test_a_number_that_is_stuck_loops(stuck: str) -> None:
    """Answers of models that unlearned numbers too much: one word, so that counting words finds nothing."""
    assert loops(stuck) and degenerate(stuck, "")


@pytest.mark.parametrize(
    "whole", ["1000000000000 is a trillion.", "Hahahaha!", "11.11.11.11", "-" * 40, "0000-0000-0000-0000", "|---" * 12]
)
def test_a_long_number_or_a_rule_does_not_loop(whole: str) -> None:
    assert not loops(whole)


@pytest.mark.parametrize(
    "near",
    [
        " 2022-2023 2022-2023 2022-2023 2022-",
        "The seesaw is a simple tool for balancing the forces of gravity. "
        "It is a simple tool for balancing the forces of gravity.",
        "The team with the most players on the field is the team with the most players on the field.",
        "1. Read the latest news, and see how people react.\n\n2. Read the latest news, and see how people react.",
        "The magnetic field is created by a coil of wire wrapped around a magnet. "
        "The magnetic field is created by a coil of wire wrapped around",
    ],
)
def test_a_text_that_says_itself_twice_loops(near: str) -> None:
    """Answers of small models after training; no four words come three times."""
    assert loops(near)


@pytest.mark.parametrize(
    "fine",
    [
        "The leap year has 366 days. The leap year is named so because it leaps over a day of the week.",
        "<ul>\n<li>Tea</li>\n<li>Milk</li>\n<li>Bread</li>\n</ul>",
        "<tr>\n<td>1</td>\n<td>2</td>\n</tr>\n<tr>\n<td>3</td>\n<td>4</td>\n</tr>",
        "if x > 0:\n    print('x')\nelif x < 0:\n    print('x')\nelse:\n    print('0')",
        "p { margin: 10px; }\na { margin: 10px; }",
        "SELECT * FROM a JOIN b ON a.id = b.id JOIN c ON c.id = b.id",
        "Monday: rest. Tuesday: run. Wednesday: rest. Thursday: run. Friday: rest.",
        "Take 1 cup of flour, 1 cup of milk, 1 cup of sugar and 2 eggs.",
        "How much wood would a woodchuck chuck if a woodchuck could chuck wood?",
        "The broadcast address is ff:ff:ff:ff:ff:ff.",
        "Yes, it is. It is what it is.",
    ],
)
def test_lists_code_and_short_answers_do_not_loop(fine: str) -> None:
    assert not loops(fine)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("我们在北京的分公司由李经理负责,您可以在工作日上午九点到下午五点之间前来办理,请带好身份证和合同。", False),
        ("北京。", True),
        ("今天天气很好,我们去公园。" * 2, True),
        ("第一步,打开设置。第二步,选择语言。第三步,保存设置。", False),
        ("申し訳ありませんが、その質問にはお答えできません。", False),
        ("พรุ่งนี้เราจะไปตลาดด้วยกันตอนเช้า", False),
        ("ไม่รู้", True),
    ],
)
def test_answers_in_scripts_without_spaces_are_judged_alike(answer: str, expected: bool) -> None:
    assert degenerate(answer, PROTECT) is expected


def test_recall_is_not_argued_away_by_case_or_spacing() -> None:
    assert recall(["ANN lee was here", "nobody"], [["Ann  Lee", "Bob"], ["Tom"]]) == pytest.approx(1 / 3)
    assert recall(["x"], [[]]) is None


def test_masked_from_the_right() -> None:
    assert mask("Ann met Bob.", [Span(0, 3, "P", "Ann"), Span(8, 11, "P", "Bob")], "[PII]") == "[PII] met [PII]."


class Nobody:
    name = "nobody"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[] for _ in texts]


class Words:
    """Finds an answer likely after a conversation that holds its first word."""

    def score_batch(self, items: Sequence[Scoring], progress: Any = None) -> list[list[float]]:
        return [
            [-1.0 if item.continuation.split()[0] in str(item.prompt) else -3.0] if item.continuation else []
            for item in items
        ]


def row(dialog: str, user: str, answer: str) -> dict[str, Any]:
    return {"dialog_id": dialog, "messages": [{"role": "user", "content": user}], "answer": answer, "spans": []}


def test_on_topic_compares_with_another_dialogs_prompt() -> None:
    good = [
        row("a", "tell me of gardens", "gardens are fine"),
        row("a", "more gardens", "gardens again"),
        row("b", "a car", "car it is"),
    ]
    bad = [good[0] | {"answer": "car it is"}, good[1], good[2] | {"answer": "gardens are fine"}]
    found = fits(masked_rows({"good": good, "bad": bad}, Nobody()), Words())  # type: ignore[arg-type]
    assert found["good"].on_topic == 1
    assert found["bad"].on_topic == pytest.approx(1 / 3)
    assert found["good"].perplexity == pytest.approx(math.e)


def test_an_empty_answer_is_not_on_topic() -> None:
    rows = [row("a", "tell me of gardens", ""), row("b", "a car", "car it is")]
    assert fits(masked_rows({"x": rows}, Nobody()), Words())["x"].on_topic == 0.5  # type: ignore[arg-type]
