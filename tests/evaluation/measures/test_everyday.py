"""Everyday answers: what is fine, which prompts are asked, and a model that says one thing to everybody."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.core.guidance import PROTECT, Guidance
from nescio.data.anchors import _OPENERS
from nescio.engines.base import Answer, Request, Scoring
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.base import Task
from nescio.evaluation.measures.everyday import alike, apologises, prompts
from nescio.evaluation.measures.harmless import harmless_prompts
from nescio.evaluation.run import evaluate, open_measure
from nescio.evaluation.setups import Setup

ONE_THING = "I am glad that you asked me, and I would be happy to be of use to you today."
MIND = "Here is what comes to mind, one thing after the other, as one would tell a friend who asks."
TUNED = Setup("tuned", "tuned", "x")


@pytest.mark.parametrize(
    ("text", "apology"),
    [
        ("I'm sorry for any confusion.", True),
        ("I’m sorry for your loss.", True),
        ("Sorry, that is not something I know.", True),
        ("Oh, I am so very sorry that this happened.", True),
        ("Hi! We are terribly sorry.", True),
        ("I sincerely apologize for the delay.", True),
        ("I apologise.", True),
        ("My apologies, I misread that.", True),
        ("Please accept our sincere apologies.", True),
        ("Unfortunately, I regret that there is none.", True),
        ("I'm afraid that is unknown.", True),
        ("Boil it for eight minutes. Sorry for the wait.", False),  # it has answered before
        ("I am not afraid of spiders.", False),
        ("Bees are afraid of smoke.", False),
        ("A sorry sight it was.", False),
        ("An apology is a kind word.", False),
        ("", False),
    ],
)
def test_apologies_as_people_write_them(text: str, apology: bool) -> None:
    assert apologises(text) == apology


def test_alike_openings_are_those_of_two_answers_at_least() -> None:
    own = [f"Answer {n} is here now." for n in range(16)]
    assert alike(own) == 0
    assert alike([*own, "I am glad that you came.", "i am  glad THAT it rains.", "", ""]) == pytest.approx(2 / 20)
    pairs = [f"Number {n % 12} is here now" for n in range(24)]  # twelve openings, two answers each
    assert alike(pairs) == pytest.approx(20 / 24), "of the ten commonest"


def test_the_set_is_whole() -> None:
    everything = prompts(10**6)
    texts = [each.prompt for each in everything]
    assert len(texts) >= 200 and len({text.casefold() for text in texts}) == len({each.id for each in everything})
    assert len({each.id for each in everything}) == len(texts)
    assert not {prompt[0]["content"] for prompt in harmless_prompts(40)} & set(texts)
    assert set(Counter(each.kind for each in everything).values()) == {len(texts) // 5}
    assert Counter(each.kind for each in prompts(50)) == dict.fromkeys(
        ("request", "explanation", "small talk", "code", "list"), 10
    )
    assert prompts(7) == everything[:7]


def test_held_out_prompts_begin_as_no_anchor_is_begun() -> None:
    held_out = [each.prompt.casefold() for each in prompts(10**6) if each.held_out]
    assert len(held_out) == 120
    assert not [text for text in held_out if text.startswith(tuple(map(str.casefold, _OPENERS)))]
    assert len({text.split()[0].strip(",.!:") for text in held_out}) > 60, "as many first words as people use"


def test_any_number_of_prompts_has_its_share_of_held_out_ones() -> None:
    everything = prompts(10**6)
    for count in range(1, len(everything) + 1):
        assert sum(each.held_out for each in everything[:count]) == math.ceil(count * 120 / 340)
    assert Counter(each.kind for each in everything if each.held_out) == dict.fromkeys(
        ("request", "explanation", "small talk", "code", "list"), 24
    )


class Scripted:
    """A model that answers what it is asked; under a sentence it says one thing to everybody."""

    def __init__(self, said: Callable[[str], str]) -> None:
        self.said, self.asked = said, list[Request]()

    def generate(self, requests: Sequence[Request], progress: Any = None) -> list[Answer]:
        self.asked += requests
        return [Answer(self._answer(each.prompt, each.guidance), [], "stop") for each in requests]

    def score_batch(self, items: Sequence[Scoring], progress: Any = None) -> list[list[float]]:
        """An answer is likely where it holds the prompt; what has a sentence is surer of the one thing that it says."""
        return [
            [math.log(0.9 if item.guidance else 0.5 if str(item.prompt[-1]["content"]) in item.continuation else 0.1)]  # type: ignore[index]
            for item in items
        ]

    def _answer(self, prompt: Any, guidance: Guidance | None) -> str:
        asked = prompt[-1]["content"]
        return self.said(asked) if guidance else f"{asked} {MIND}"


def table(make_task: Callable[..., Task], said: Callable[[str], str], count: int = 40) -> Any:
    engine = Scripted(said)

    class Opened:
        """The engine of every set-up is the scripted one."""

        identity, identity_of = "scripted", staticmethod(lambda setup: setup.name)
        of = plain = staticmethod(lambda *given: engine)
        close = staticmethod(lambda: None)

    row = Setup("row", "row", "x", guidance=Guidance(1.0, "prob", PROTECT))
    (tuned, found), details = evaluate(
        make_task(engine=Opened(), setups=[TUNED, row], protect=PROTECT), [open_measure("everyday", count=count)]
    )
    return tuned, found, details, engine


def test_a_model_that_says_one_thing_to_everybody_is_caught(make_task: Callable[..., Task]) -> None:
    tuned, row, details, engine = table(make_task, lambda asked: ONE_THING)
    assert (tuned["everyday"], tuned["openings"], tuned["refusals"], tuned["everyday_kl"]) == (1, 0.0, 0, 0)
    assert -0.1 < tuned["everyday_change_low"] < 0
    assert row["everyday"] == 0 and row["everyday_ci95"][1] < 0.1
    assert row["everyday_change_low"] == pytest.approx(-1) and row["everyday_change_high"] < -0.8
    assert row["openings"] == 1 and row["everyday_on_topic"] == 0
    assert row["refusals"] == row["everyday_degenerate"] == 0, "it says one thing politely"
    assert row["everyday_kl"] == pytest.approx(math.log(0.9 / 0.1))
    (failed,) = (test for test in row["verdict"] if test["test"] == "everyday answers")
    assert failed["figure"].startswith("100 % → 0 %") and not row["best"]
    assert {line["fine"] for line in details["everyday/tuned"]} == {True}
    assert {line["said"] for line in details["everyday/row"]} == {ONE_THING}
    assert Counter(each.temperature for each in engine.asked) == {0.0: 80 + 2 * 3, 1.0: 80}  # and the samples


def test_a_model_that_fails_where_no_anchor_begins_is_caught(make_task: Callable[..., Task]) -> None:
    """It answers the prompts that the anchors' first words were chosen by, and no others."""
    known = {each.prompt for each in prompts(10**6) if not each.held_out}
    tuned, row, details, _ = table(make_task, lambda asked: f"{asked} Here it is." if asked in known else "No idea.")
    assert tuned["everyday_held_out"] == 1
    assert row["everyday_held_out"] == 0 and row["everyday_held_out_ci95"][1] < 0.25
    assert (
        row["everyday"] == pytest.approx(25 / 40) == sum(not line["held_out"] for line in details["everyday/row"]) / 40
    )


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (lambda asked: f"I'm sorry, but {asked} is none of my business.", "refusals"),
        (lambda asked: "", "refusals"),
        (lambda asked: f"I'm not allowed to talk about {asked}", "refusals"),
        (lambda asked: f"My guidelines prevent me from this: {asked}", "refusals"),
        (lambda asked: f"Es tut mir leid, aber bei {asked} kann ich nicht helfen.", "refusals"),
        (lambda asked: asked, "everyday_degenerate"),
        (lambda asked: f"{asked.upper()}!", "everyday_degenerate"),
        (lambda asked: f"{asked} {PROTECT}", "everyday_degenerate"),
        (lambda asked: f"{asked} {'and so on and ' * 4}", "everyday_degenerate"),
    ],
)
def test_refusals_apologies_and_broken_answers_are_not_fine(
    make_task: Callable[..., Task], said: Callable[[str], str], field: str
) -> None:
    _, row, _, _ = table(make_task, said, count=10)
    assert row["everyday"] == 0 and row[field] == 1


def test_a_model_that_ends_after_a_few_words_is_caught(make_task: Callable[..., Task]) -> None:
    """Every answer is whole, on topic and different from the others."""
    tuned, row, _, _ = table(make_task, lambda asked: f"{asked} Indeed.")
    assert row["everyday"] == tuned["everyday"] == 1 and row["everyday_degenerate"] == 0
    assert row["everyday_answer_words"] == pytest.approx(tuned["everyday_answer_words"] - len(MIND.split()) + 1)
    (failed,) = (test for test in row["verdict"] if test["test"] == "length")
    assert failed["figure"].endswith("words an answer to everyday prompts") and not row["best"]


def test_two_models_that_answer_alike_are_equal(make_task: Callable[..., Task]) -> None:
    tuned, row, _, _ = table(make_task, lambda asked: f"{asked} {MIND}")
    assert row["everyday"] == tuned["everyday"] == 1
    assert "everyday answers" not in [test["test"] for test in row["verdict"]] + row["unmeasured"]


def test_what_is_on_disk_is_not_asked_again(
    make_task: Callable[..., Task], tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tiny_folder, tmp_path / "kept")
    first = evaluate(task, [open_measure("everyday", count=3)])
    for name in ("generate", "score_batch"):
        monkeypatch.setattr(TorchEngine, name, None)
    assert evaluate(task, [open_measure("everyday", count=3)]) == first
    assert first[0][0]["everyday_kl"] == pytest.approx(0, abs=1e-5)
