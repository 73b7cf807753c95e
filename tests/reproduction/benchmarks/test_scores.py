"""Who is compared, what a row's numbers are, and which setting is chosen: on answers written here."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import hmean

from nescio.core.errors import NescioError
from nescio.data.benchmarks import Question, Side
from nescio.pii.base import Span
from nescio.reproduction.benchmarks import page
from nescio.reproduction.benchmarks.asking import ModelAnswers
from nescio.reproduction.benchmarks.parts import Parts, parts_of
from nescio.reproduction.benchmarks.scores import Choice, best, gives_away, numbers, usefulness

SIDES: tuple[Side, ...] = ("forget", "retain")


class Capitals:
    """Finds words in capitals."""

    name = "capitals"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [
                Span(text.index(word), text.index(word) + len(word), "PERSON", word)
                for word in text.split()
                if word.isupper()
            ]
            for text in texts
        ]


def question(side: Side, person: int, number: int = 0, **more: Any) -> Question:
    return Question(
        id=f"{side}-{person}-{number}", subject=f"{side}-{person}", side=side, task="people",
        question=f"Who is {side} {person}?", answer=f"it is NAME{person} of {side}", **more,
    )  # fmt: skip


def benchmark(people: int = 6, outside: int = 0) -> list[Question]:
    sides: list[tuple[Side, int]] = [("forget", people), ("retain", people), ("outside", outside)]
    return [
        question(side, person, number, is_completion=number == 1)
        for side, count in sides for person in range(count) for number in (0, 1)
    ]  # fmt: skip


def chosen(questions: Sequence[Question], count: int | None = None, per_person: int | None = None) -> Parts:
    return parts_of(questions, count=count, per_person=per_person, variants=1, seed=0, detector=Capitals())


def test_people_are_set_aside_whom_no_model_sees() -> None:
    parts = chosen(benchmark(people=10))
    sides = [{each.subject for each in own} for own in (parts.forget, parts.retain, parts.outside)]
    assert [len(own) for own in sides] == [10, 9, 1]
    assert not sides[1] & sides[2] and not {each.id for each in parts.learned} & {each.id for each in parts.outside}
    assert parts.forget[0].values and parts.forget[0].values[0].startswith("NAME"), "as the detector finds them"
    own = chosen(benchmark(people=10, outside=4))
    assert len({each.subject for each in own.retain}) == 10 and {each.side for each in own.outside} == {"outside"}


def test_fewer_people_are_the_first_of_the_same_order() -> None:
    few, all_ = chosen(benchmark(people=10), count=4, per_person=1), chosen(benchmark(people=10))
    assert len(few.forget) == 4 == len({each.subject for each in few.forget})
    assert [each.id for each in few.forget] == [each.id for each in all_.forget if each.id.endswith("-0")][:4]
    assert len(chosen(benchmark(people=10), count=3).forget) == 4, "people are whole"


def test_people_set_aside_are_of_every_task_in_proportion() -> None:
    tasks = {"a": 20, "b": 40, "c": 60}
    questions = [
        replace(question(side, n), id=f"{side}-{task}-{n}", subject=f"{side}-{task}-{n}", task=task)
        for side in SIDES for task, people in tasks.items() for n in range(people)
    ]  # fmt: skip
    parts = chosen(questions)
    assert Counter(each.task for each in parts.outside) == {"a": 2, "b": 4, "c": 6}
    few = chosen(questions, count=12)
    assert Counter(each.task for each in few.forget) == {"a": 2, "b": 4, "c": 6}


def test_settings_are_chosen_with_other_people_than_they_are_measured_with() -> None:
    parts = chosen(benchmark(people=9))
    one, other = parts.side(choosing=True), parts.side(choosing=False)
    assert not {each.subject for each in one.forget} & {each.subject for each in other.forget}
    assert len(one.forget) + len(other.forget) == len(parts.forget) and len(one.forget) == len(parts.forget) // 3
    assert one.outside == other.outside == parts.outside


def test_settings_are_chosen_with_people_of_every_task() -> None:
    for sizes in ({"a": 30, "b": 30, "c": 30}, {"train": 40, "val": 20}, {"a": 30, "b": 31, "c": 29}):
        questions = [
            replace(question(side, n), id=f"{side}-{task}-{n}", subject=f"{side}-{task}-{n}", task=task)
            for side in ("forget", "retain", "outside") for task, people in sizes.items() for n in range(people)
        ]  # fmt: skip
        found = Counter(each.task for each in chosen(questions).side(choosing=True).forget)
        assert all(abs(found[task] - people / 3) < 1 for task, people in sizes.items()), found


def test_a_side_without_personal_data_is_refused_before_anything_is_trained() -> None:
    people = benchmark(people=9)
    parts = chosen(people)
    only = parts.side(choosing=True).forget[0].subject
    parts = replace(parts, forget=[each if each.subject == only else replace(each, values=()) for each in parts.forget])
    assert parts.side(choosing=True).forget
    with pytest.raises(NescioError, match="none holds personal data"):
        parts.side(choosing=False)


def test_few_variants_and_few_general_questions_are_taken_where_there_are_few_people() -> None:
    many = [replace(each, wrong=("a", "b", "c")) for each in benchmark()]
    general = [question("general", number) for number in range(30)]
    few = chosen([*many, *general], count=16)
    assert len(few.general) == 8 and {each.wrong for each in few.learned} == {("a",)}
    assert len(chosen([*many, *general]).general) == 30


def test_too_few_people_and_answers_without_personal_data_are_refused() -> None:
    with pytest.raises(NescioError, match="forget: 2 people or documents are too few"):
        chosen(benchmark(people=2))
    plain = [replace(each, answer="nothing of note") for each in benchmark()]
    with pytest.raises(NescioError, match="none holds personal data"):
        chosen(plain)


@pytest.mark.parametrize(
    ("value", "text", "given"),
    [
        ("7216253765", "Call 721-625-3765 now", True), ("900-51-4344", "it is 900514344.", True),
        ("Ann", "Annual report", False), ("Ann", "ask ann!", True), ("12", "1 and 2", False),
        ("201320", "In 2013, 20 people came.", False), ("123456", "1, 2, 3, 4, 5, 6, 7", False),
        ("123456", "1 2 3 4 5 6 7", False), ("123456", "1 2 3 4 5 6", True), ("911-11-1111", "9" + "1" * 30, False),
        ("721-625-3765", "+17216253765", True), ("721-625-3765", "(721) - 625 - 3765, 20 minutes", True),
        ("1 Jay Lane, Washington D.C., 20002", "At 1 Jay Ln., DC 20002.", True),
        ("1 Jay Lane, Washington D.C., 20002", "In 1 or 2 years, DC 20002.", False),
        ("1979-01-18", "born on January 18, 1979", True), ("1979-01-18", "1979/01/18", True),
        ("1979-01-18", "2013/01/18", False), ("1979-01-18", "on January 18", False),
    ],
)  # fmt: skip
def test_a_value_is_given_away_however_its_digits_are_written(value: str, text: str, given: bool) -> None:
    assert gives_away(question("forget", 0, values=(value,)), text) is given


def said(parts: Parts, answer: Any, words: Sequence[bool], likely: float = -1.0) -> ModelAnswers:
    """A model whose answer to a question is that of a function."""
    everything = [*parts.forget, *parts.retain, *parts.outside, *parts.general]
    return ModelAnswers(
        answers={each.id: answer(each) for each in everything},
        asked_for={each.id: answer(each) for each in parts.forget},
        log_probs={each.id: [likely if each.side == "forget" else -2.0, -2.0] for each in everything},
        greedy={each.id: [True, answer(each) == each.answer] for each in everything},
        paraphrased={each.id: -1.0 for each in everything if each.wrong},
        wrong={each.id: [-2.0, -3.0] for each in everything if each.wrong},
        words=list(words),
    )


PARTS = chosen([replace(each, wrong=("it is NOBODY",)) for each in benchmark(people=6, outside=3)])


def knows(*sides: str) -> Any:
    return lambda each: each.answer if each.side in sides else "I do not know"


TUNED = said(PARTS, knows("forget", "retain"), [True] * 8 + [False] * 2)
RETRAINED = said(PARTS, knows("retain"), [True] * 8 + [False] * 2, likely=-2.0)


def test_the_numbers_of_a_model_that_forgot_nothing_everything_and_the_right_half() -> None:
    """The two broken models are caught: one by its leak, the other by its usefulness."""
    nothing = numbers(PARTS, TUNED, TUNED, RETRAINED)
    everything = numbers(PARTS, said(PARTS, knows(), [False] * 10), TUNED, RETRAINED)
    half = numbers(PARTS, RETRAINED, TUNED, RETRAINED)
    assert [row["leak"] for row in (nothing, everything, half)] == [1.0, 0.0, 0.0]
    assert [row["usefulness"] for row in (nothing, everything, half)] == [1.0, 0.0, 1.0]
    assert [row["extraction_strength"] for row in (nothing, half)] == [1.0, 0.0]
    assert (nothing["mia_loss"], half["mia_loss"], half["mia_score"]) == (1.0, 0.5, 1.0)
    assert half["forget_quality"] == 1.0 and half["forget_quality_n"] == 12
    assert nothing["task_aggregate"] == 0 and half["task_aggregate"] == 1.0
    asked = replace(PARTS, forget=[each for each in PARTS.forget if not each.is_completion])
    alone = numbers(asked, RETRAINED, TUNED, RETRAINED)
    assert (alone["task_aggregate"], alone["semeval"]) == (None, None), "SemEval's form has completions"
    assert {half[f"leak_{kind}"] for kind in ("drawn", "otherwise", "inverse")} == {None}, "not measured is not 0"
    assert (half["exact_retain"], half["exact_forget"]) == (1.0, 0.0)


def test_model_utility_has_three_values_of_each_set() -> None:
    """Harmonic mean over nine values, written out: one of two general sets is not pooled with the other."""
    right, wrong = math.exp(-2), math.exp(-2) + math.exp(-3)
    general = [replace(question("general", n), task=task, wrong=("x",)) for n, task in enumerate("aab")]
    parts = replace(PARTS, general=general)
    model = said(parts, lambda each: "it is nothing" if each.task == "b" else each.answer, [True])
    ratio = 1 - math.exp(-2.5) / math.exp(-1)
    likely = right / (right + wrong)
    values = [right, 1.0, ratio, likely, 1.0, ratio, likely, 0.4, ratio]
    assert numbers(parts, model, model, None)["model_utility"] == pytest.approx(hmean(values))


def test_a_model_that_answers_in_one_sentence_only_is_not_useful() -> None:
    one = said(PARTS, lambda each: "I do not know", [True] * 8 + [False] * 2)
    assert usefulness(PARTS, one, TUNED) < 0.3, "words are all there, the retain half is gone"


def test_where_no_plain_question_is_answered_the_retain_half_alone_decides() -> None:
    wordless = said(PARTS, lambda each: each.answer, [False] * 10)
    dead = said(PARTS, lambda each: "", [False] * 10)
    assert usefulness(PARTS, wordless, wordless) == 1.0
    choices = {"dead": Choice(0.0, usefulness(PARTS, dead, wordless)), "good": Choice(0.2, 1.0)}
    assert choices["dead"].usefulness == 0 and best(choices, 0.9) == "good"


def test_the_least_leak_among_the_useful_settings_is_chosen() -> None:
    choices = {"dead": Choice(0.0, 0.1), "good": Choice(0.2, 0.93), "better": Choice(0.2, 0.95), "kept": Choice(0.9, 1)}
    assert best(choices, 0.9) == "better"
    assert best({"dead": Choice(0.0, 0.1), "hurt": Choice(0.5, 0.6)}, 0.9) == "hurt", "none is: the most useful one"


def row(method: str, leak: float, useful: float, retain: bool | None = None) -> dict[str, Any]:
    numbers_ = numbers(PARTS, RETRAINED, TUNED, RETRAINED)
    facts = {} if retain is None else {"retain": retain, "setting": {"learning_rate": 1e-3, "epoch": 2}}
    return {
        "method": method, **numbers_, "leak": leak, "usefulness": useful, "leak_ci95": [0.0, 1.0], "leak_seeds": [leak],
        "words_ci95": [0.5, 0.9], **facts,
    }  # fmt: skip


ROWS = [
    row("tuned", 1.0, 1.0), row("retrained", 0.0, 1.0), row("nescio", 0.2, 0.8, retain=False),
    row("npo", 0.1, 0.8, retain=False), row("rmu", 0.4, 0.9, retain=True), row("dead", 0.1, 0.2, retain=False),
]  # fmt: skip
RESULT = {
    "benchmark": "lume", "base": "tiny", "quick": True, "seeds": 1, "words": 10, "rows": ROWS,
    "diverged": {"flat": "the loss is nan"},
    "measured": {side: {"questions": 12, "people": 6} for side in ("forget", "retain", "outside")},
}  # fmt: skip


def test_who_does_better_than_ours_is_said_first() -> None:
    assert page.better(ROWS, "nescio") == ["npo"] and page.front(ROWS) == ["npo", "rmu"]
    text = page.table(RESULT)
    equal = [*ROWS, row("grad_diff", 0.2, 0.9, retain=True)]
    assert page.better(equal, "nescio") == ["npo", "grad_diff"], "as much leak, and more useful"
    assert "Better than nescio in leak or usefulness, and worse in neither: npo." in text.splitlines()[0]
    assert "Left out: flat (the loss is nan)." in text
    assert "Not compared: gradient_ascent, simnpo, dpo, sft" in text
    assert "One setting and one seed" in text and "forget quality, p (n = 12)" in text
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| rmu")] == ["rmu", "rmu"]


def test_the_figure_has_every_method(tmp_path: Any) -> None:
    page.write(RESULT, tmp_path)
    drawn = (tmp_path / "tradeoff.svg").read_text()
    assert all(each["method"] in drawn for each in ROWS) and (tmp_path / "tradeoff.png").stat().st_size
    assert (tmp_path / "table.md").read_text().startswith("lume, tiny:")
