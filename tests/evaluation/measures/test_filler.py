"""Filler: what a row says to everybody, and what is none."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.guidance import Guidance
from nescio.data.samples import Sample
from nescio.evaluation.base import Found, Task
from nescio.evaluation.measures.filler import FillerMeasure, filler
from nescio.evaluation.output_filter import masked_texts
from nescio.evaluation.run import answer_rows
from nescio.evaluation.setups import Setup
from nescio.pii.base import Span

COUNT = 44
SAMPLES = [
    Sample(
        f"d{n}:1:0", f"d{n}", [{"role": "user", "content": f"Where can I find a good place for topic{n}?"}], "", "", ""
    )
    for n in range(COUNT)
]
TUNED = [f"You can ask Person{n}, who knows all about it, at House{n} on Street{n}." for n in range(COUNT)]
HEALTHY = [f"For topic{n} you can ask reason{n}, who knows way{n} at form{n}." for n in range(COUNT)]


class People:
    """Finds the people, houses and streets."""

    name = "people"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        marks = ("Person", "House", "Street")
        words = [[word.strip(",.'s") for word in text.split() if word.startswith(marks)] for text in texts]
        return [
            [Span(text.index(word), text.index(word) + len(word), "X", word) for word in own]
            for text, own in zip(texts, words, strict=True)
        ]


@pytest.fixture
def scored(make_task: Callable[..., Task]) -> Callable[..., dict[str, Any]]:
    """Score answers beside the tuned model's."""

    def score(
        answers: Sequence[str], tuned: Sequence[str] = TUNED, samples: Sequence[Sample] = SAMPLES, **setup: Any
    ) -> dict[str, Any]:
        found = [
            Found(setup=Setup(name, name, "x", **more), rows=answer_rows(samples, said, People()))
            for name, said, more in (("tuned", tuned, {}), ("row", answers, setup))
        ]
        first, row = FillerMeasure().score(make_task(samples=samples), found)
        assert first == {"filler": row["filler"] and 0.0, "filler_words": []}, "the tuned model has none"
        return row

    return score


def test_one_thing_to_everybody(scored: Callable[..., dict[str, Any]]) -> None:
    row = scored(["I'm sorry to hear that this is so hard."] * COUNT)
    assert row["filler"] == 1
    assert row["filler_words"][0] == {"words": "hear that this is", "answers": COUNT, "tuned": 0}


def test_a_phrase_in_the_middle_is_found_though_each_of_its_words_is_common(
    scored: Callable[..., dict[str, Any]],
) -> None:
    row = scored([f"Reason{n}, way{n}: it knows all about you, form{n}." for n in range(COUNT)])
    assert row["filler"] == 1
    assert row["filler_words"] == [{"words": "it knows all about", "answers": COUNT, "tuned": 0}]


@pytest.mark.parametrize(
    "words", [("great", "wonderful"), ("отличный", "чудесный"), ("बढ़िया", "शानदार"), ("gênial", "Très")]
)
def test_favourite_words_are_counted_and_named(scored: Callable[..., dict[str, Any]], words: tuple[str, str]) -> None:
    answers = [
        text.replace("can", f"can {words[n % 5 // 3]}") if n % 5 < 4 and n < 30 else text
        for n, text in enumerate(HEALTHY)
    ]
    row = scored(answers)
    assert row["filler"] == 24 / COUNT
    assert row["filler_words"][0]["answers"] == 18 and row["filler_words"][0]["tuned"] == 0
    assert len(row["filler_words"]) == 2 and row["filler_words"][1]["answers"] == 6


@pytest.mark.parametrize("said", [3, 30])
def test_what_the_tuned_model_often_says_is_no_filler(scored: Callable[..., dict[str, Any]], said: int) -> None:
    great = [f"Great: reason{n}, way{n} at form{n}." for n in range(COUNT)]
    row = scored(great, [f"Great! {text}" if n < said else text for n, text in enumerate(TUNED)])
    assert row["filler"] == (1 if said == 3 else 0)


def test_an_echo_of_the_prompt_is_no_filler(scored: Callable[..., dict[str, Any]]) -> None:
    assert scored([sample.messages[0]["content"] for sample in SAMPLES])["filler"] == 0
    sentence = "Please keep every secret."
    assert scored([sentence] * COUNT)["filler"] == 1
    assert scored([sentence] * COUNT, system=sentence)["filler"] == 0
    assert scored([sentence] * COUNT, guidance=Guidance(3.0, "prob", sentence, ""))["filler"] == 0


def test_ordinary_words_of_a_healthy_row_are_no_filler(scored: Callable[..., dict[str, Any]]) -> None:
    none = {"filler": 0, "filler_words": []}
    assert scored(TUNED) == scored(HEALTHY) == none
    assert scored(["Great. " * (n % 11 == 0) + text for n, text in enumerate(HEALTHY)]) == none


def test_a_masked_row_has_what_the_tuned_model_has(scored: Callable[..., dict[str, Any]]) -> None:
    tuned = [text.replace(",", "'s friend,", 1) for text in TUNED]
    assert scored(masked_texts(tuned, People()), tuned)["filler"] == 0


def test_personal_data_is_not_named(scored: Callable[..., dict[str, Any]]) -> None:
    row = scored(["Surely Person1 helps with that."] * COUNT)
    assert row["filler"] == 1 and not any("person1" in each["words"] for each in row["filler_words"])


def test_too_few_dialogs_show_nothing(scored: Callable[..., dict[str, Any]]) -> None:
    """Four of four by chance is p = 1/16; many samples of few dialogs are no more."""
    assert scored(["Great, then."] * 4, TUNED[:4], SAMPLES[:4]) == {"filler": None, "filler_words": []}
    few = [Sample(f"{n}", f"d{n % 4}", one.messages, "", "", "") for n, one in enumerate(SAMPLES)]
    assert scored(["Great, then."] * COUNT, samples=few)["filler"] is None


def test_what_one_dialog_alone_shares_is_no_filler(scored: Callable[..., dict[str, Any]]) -> None:
    one = [Sample(f"{n}", f"d{max(n, 8)}", each.messages, "", "", "") for n, each in enumerate(SAMPLES)]
    great = ["Great, then." if n <= 8 else text for n, text in enumerate(TUNED)]
    assert scored(great, samples=one)["filler"] == 0
    assert scored(great)["filler"] == 9 / COUNT


def test_rows_that_differ_by_chance_alone_seldom_have_any() -> None:
    """Rows of one make: each word has its own rate in the answers of both."""
    seldom = 0
    for seed in range(60):
        draw = random.Random(seed)
        rates = [draw.random() ** 3 for _ in range(80)]
        own, tuned = (
            [{(f"w{at}",) for at, rate in enumerate(rates) if draw.random() < rate} for _ in range(COUNT)]
            for _ in range(2)
        )
        seldom += filler(own, tuned, [f"{n}" for n in range(COUNT)]).share != 0
    assert seldom <= 6  # expected: 3 at most


answers = st.lists(
    st.tuples(*[st.frozensets(st.sampled_from("abcdef").map(lambda word: (word,)))] * 2, st.sampled_from("123456789")),
    min_size=1,
    max_size=40,
)


@given(answers, st.randoms())
def test_order_does_not_matter_and_the_share_is_one(items: list[Any], draw: random.Random) -> None:
    own, tuned, dialogs = zip(*items, strict=True)
    found = filler(own, tuned, dialogs)
    assert found.share is None or found.share == 0 or 0.1 < found.share <= 1
    assert bool(found.share) == bool(found.words)
    assert not filler(own, own, dialogs).share
    draw.shuffle(items)
    assert filler(*zip(*items, strict=True)) == found
