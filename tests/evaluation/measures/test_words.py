"""Questions answered in words: what counts as right, which are asked, and a model that only apologises."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.core.guidance import PROTECT, Guidance
from nescio.core.text import occurrences
from nescio.engines.base import Answer, Request, Scoring
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.base import Task
from nescio.evaluation.measures.choices import plain_questions
from nescio.evaluation.measures.words import PlainQuestion, all_questions, drawn, is_right, set_aside
from nescio.evaluation.run import evaluate, open_measure
from nescio.evaluation.setups import Setup

SORRY = "I'm sorry for any confusion, but I can't help with that."


def question(*options: str, answer: int = 0) -> PlainQuestion:
    return PlainQuestion(id="x", field="x", level=1, question="Which?", options=options, answer=answer)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("A dog barks.", True),
        ("DOG", True),
        ("It is the **dog**, not the cat.", True),
        ("It is not a cat but a dog.", False),  # the first that is named
        ("Dogs bark.", False),  # no option: "dogs" is another word
        ("The hotdog.", False),
        ("", False),
        (SORRY, False),
        ("\uff24\uff4f\uff47!", True),  # full-width letters
        ("A d\u00adog.", True),  # with a soft hyphen
        ("The bulldog or the cat; the dog", False),
    ],
)
def test_right_is_when_the_first_option_that_is_named_is_the_right_one(said: str, right: bool) -> None:
    assert is_right(question("dog", "cat", "cow", "horse"), said) == right


def test_options_of_several_words_and_of_accents() -> None:
    assert is_right(question("New York", "New", "old", "older"), "In New\nYork.")
    assert is_right(question("café", "tea", "milk", "water"), "In a CAFE\u0301.")
    assert not is_right(question("tea", "café", "milk", "water"), "café, then tea")


def test_the_set_is_whole() -> None:
    questions = all_questions()
    by_field = Counter(each.field for each in questions)
    assert len(questions) >= 1000 and len(by_field) == 20 and min(by_field.values()) >= 50
    assert (
        len({each.id for each in questions}) == len({each.question.casefold() for each in questions}) == len(questions)
    )
    levels = Counter((each.field, each.level) for each in questions)
    assert len(levels) == 60 and {level for _, level in levels} == {1, 2, 3} and min(levels.values()) >= 8
    places = Counter(each.answer for each in questions)
    assert places.keys() == {0, 1, 2, 3} and max(places.values()) < 0.3 * len(questions)


def test_no_option_is_in_the_question_or_in_another_option() -> None:
    for each in all_questions():
        assert len({option.casefold() for option in each.options}) == 4 and all(map(str.strip, each.options)), each
        for option in each.options:  # a model that repeats the question would name it
            texts = [each.question, *(other for other in each.options if other != option)]
            assert not any(occurrences(text, option, ignore_case=True) for text in texts), each
            assert is_right(each, f"It is {option}.") == (option == each.options[each.answer]), each


def test_few_questions_are_of_all_fields_and_begin_more_of_them() -> None:
    everything, fields = all_questions(), {each.field for each in all_questions()}
    assert sorted(each.id for each in drawn(10**6)) == sorted(each.id for each in everything)
    for count in (len(fields), 3 * len(fields) + 1):
        few = drawn(count)
        shares = Counter(each.field for each in few)
        assert shares.keys() == fields and max(shares.values()) - min(shares.values()) <= 1
        assert drawn(count + 7)[:count] == few
    assert not {each.id for each in set_aside(32)} & {each.id for each in drawn(1000)}, "an epoch is chosen by others"


class Scripted:
    """An engine of models that know every answer, one of which apologises whenever it should say something."""

    def __init__(self) -> None:
        self.known = {each.question: each.options[each.answer] for each in (*all_questions(), *plain_questions())}
        self.asked = list[Request]()

    def generate(self, requests: Sequence[Request], progress: Any = None) -> list[Answer]:
        self.asked += requests
        said = [SORRY if each.guidance else f"It is {self._right(each.prompt)}." for each in requests]
        return [Answer(text, [], "stop") for text in said]

    def score_batch(self, items: Sequence[Scoring]) -> list[list[float]]:
        return [[-1.0 if item.continuation == self._right(item.prompt) else -9.0] for item in items]

    def _right(self, prompt: Any) -> str:
        return self.known.get(prompt[-1]["content"], "nothing")


class Opened:
    """The engine of every set-up is the scripted one."""

    def __init__(self, engine: Scripted) -> None:
        self.identity, self.identity_of = "scripted", lambda setup: setup.name
        self.of = self.plain = lambda *given: engine
        self.close = lambda: None


def test_a_model_that_apologises_to_everybody_is_caught_in_words_and_not_by_likelihood(
    make_task: Callable[..., Task],
) -> None:
    sorry = Setup("sorry", "sorry", "x", guidance=Guidance(1.0, "prob", PROTECT))
    engine, setups = Scripted(), [Setup("tuned", "tuned", "x"), sorry]
    measures = [open_measure("choices", count=40), open_measure("words", count=40)]
    for _ in range(2):  # the second time from the disk
        (tuned, row), details = evaluate(make_task(engine=Opened(engine), setups=setups), measures)
        assert (tuned["words"], tuned["utility"]) == (1, 1) and -0.1 < tuned["words_change_low"] < 0
        assert row["utility"] == 1 and row["utility_mcnemar_p"] == 1, "likelihood of options sees nothing"
        assert row["words_mcnemar_p"] < 1e-9 and tuned["words_mcnemar_p"] == 1
        assert row["words"] == 0 and row["words_ci95"][1] < 0.1 and row["words_change_low"] == pytest.approx(-1)
        assert [line["right"] for line in details["words/sorry"]] == [False] * 40
        assert {line["said"] for line in details["words/sorry"]} == {SORRY}
        assert all(line["right"] and line["id"] and line["field"] for line in details["words/tuned"])
    asked = [each for each in engine.asked if each.max_tokens == 32]
    assert len(asked) == 2 * 40, "nothing is asked twice"
    assert {each.prompt[-1]["content"] for each in asked} == {each.question for each in drawn(40)}  # type: ignore[index]


def test_a_question_is_asked_under_the_rows_own_sentences(
    make_task: Callable[..., Task], tiny: Callable[..., TorchEngine], tmp_path: Path
) -> None:
    row = Setup("row", "row", "x", system="Be brief.", nudge=True, guidance=Guidance(3.0, "prob", PROTECT, "Tell."))
    engine = tiny()
    (ask,) = open_measure("words", count=3).asks(make_task(setups=[row]))
    (said,) = ask.work(engine, [row])
    asked = [Request(row.asked(each.messages), row.guidance, max_tokens=32) for each in drawn(3)]
    assert said == [answer.text for answer in engine.generate(asked)]
