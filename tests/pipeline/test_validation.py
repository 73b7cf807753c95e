"""What is measured after each epoch: leak, words and both together, and a warning where one thing is said to all."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.core.prompts import Message
from nescio.data.samples import Sample
from nescio.engines.base import Answer, Request
from nescio.evaluation.measures.words import all_questions
from nescio.pii.base import Span
from nescio.pipeline import validation
from nescio.pipeline.context import Context
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.train import train

SORRY = "I'm sorry for any confusion."
RIGHT = {each.question: f"Surely {each.options[each.answer]} is what you mean." for each in all_questions()}


class Toms:
    """Finds every Tom."""

    name = "toms"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[Span(0, 3, "X", "Tom")] * text.count("Tom") for text in texts]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Context, list[str]]]:
    """A run with two held-out samples; a model is a function from the last message to the answer."""

    class Said:
        def __init__(self, model: Callable[[str], str], tokenizer: Any) -> None:
            self.model = model

        def generate(self, asked: Sequence[Request]) -> list[Answer]:
            assert all(each.guidance and each.guidance.scale == 1 for each in asked), "with the protect prompt"
            return [Answer(self.model(each.prompt[-1]["content"]), [], "stop") for each in asked]  # type: ignore[index]

    monkeypatch.setattr(validation, "TorchEngine", Said)
    monkeypatch.setattr(validation, "drop_too_long", lambda samples, asking, note: samples)
    asked = [[Message(role="user", content=f"Person {n}?")] for n in (0, 1)]
    samples = [Sample(f"d{n}", f"d{n}", messages, "Tom.", "X", "Tom") for n, messages in enumerate(asked)]
    write_jsonl(tmp_path / "samples/test.jsonl", map(asdict, samples))

    def make(**train: Any) -> tuple[Context, list[str]]:
        notes: list[str] = []
        recipe = Recipe.model_validate(
            {"base": "b", "tuned": "t", "data": {"dialogs": "d"}, "train": {"validation_questions": 8} | train}
        )
        context = Context(recipe, tmp_path, notes.append)
        context.__dict__["detector"] = Toms()
        return context, notes

    return make


def knows(leaks: str, most: int = 10**6) -> Callable[[str], str]:
    """A model that answers `leaks` about people, and as many questions as it may."""
    left = iter(range(most))

    def said(asked: str) -> str:
        return leaks if asked.startswith("Person ") else asked if next(left, None) is None else RIGHT[asked]

    return said


def test_a_value_that_the_detector_misses_leaks_too(run: Callable[..., Any]) -> None:
    context, _ = run()
    measured = validation.epoch_measure(context, knows("It is TOM."), None)
    assert context.detector.find(["It is TOM."]) == [[]]
    assert measured(knows("It is TOM."), 1)["leakage"] == 1 and measured(knows("Nobody."), 2)["leakage"] == 0


def test_what_leaks_and_what_is_still_known_are_shares_of_what_was(run: Callable[..., Any]) -> None:
    context, notes = run()
    measured = validation.epoch_measure(context, knows("Tom and Tom."), None)
    assert measured(knows("Tom, sir.", most=6), 1) == {"leakage": 1, "words": 6 / 8, "balanced": 0.5 + 0.25}
    assert measured(knows("Nobody."), 2) == {"leakage": 0, "words": 1, "balanced": 0}
    assert notes == [
        f"after epoch {epoch}: {now} pieces of personal data an answer (2.00 before), "
        f"{right} of 8 plain questions right in words (8)"
        for epoch, now, right in ((1, "1.00", 6), (2, "0.00", 8))
    ]


def test_a_model_that_says_one_thing_to_everybody_is_warned_of_at_once(run: Callable[..., Any]) -> None:
    context, notes = run()
    measured = validation.epoch_measure(context, knows("Tom."), None)
    assert measured(lambda asked: SORRY, 1) == {"leakage": 0, "words": 0, "balanced": 1}
    assert notes[1:] == [
        'warning: the model says one thing to everybody: 8 of its answers to 8 questions begin "i\'m sorry for any" '
        "(before training at most 1 began alike); raise train.anchors.weight or train.anchors.count, or lower "
        "train.learning_rate"
    ]
    assert measured(lambda asked: "", 2)["words"] == 0 and "warning" in notes[-1], "silence is one thing too"


def test_a_habit_of_the_tuned_model_is_no_warning(run: Callable[..., Any]) -> None:
    def habit(asked: str) -> str:
        return f"The answer to that is: {asked}"

    context, notes = run()
    measured = validation.epoch_measure(context, habit, None)
    measured(habit, 1)
    assert len(notes) == 1


def test_samples_on_which_nothing_leaked_before_say_so(run: Callable[..., Any]) -> None:
    context, notes = run(validation_questions=0)
    validation.epoch_measure(context, knows("Nobody."), None)(knows("Nobody."), 1)
    assert notes == [
        "after epoch 1: 0.00 pieces of personal data an answer (0.00 before: these samples cannot show less)"
    ]


def test_without_questions_the_leak_alone_is_measured(run: Callable[..., Any]) -> None:
    context, notes = run(validation_questions=0, keep="leakage")
    assert validation.epoch_measure(context, knows("Tom."), None)(knows("Tom."), 3) == {"leakage": 1}
    assert notes == ["after epoch 3: 1.00 pieces of personal data an answer (1.00 before)"]


def test_a_balance_without_questions_is_refused(run: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="keep: balanced weighs leak against words; set validation_questions"):
        run(validation_questions=0, keep="balanced")


def test_what_never_leaked_and_was_never_known_is_not_divided_by(run: Callable[..., Any]) -> None:
    context, _ = run()
    measured = validation.epoch_measure(context, lambda asked: asked, None)
    assert measured(lambda asked: asked, 1)["balanced"] == 0
    assert measured(knows("Tom."), 2)["balanced"] == 1


def test_weights_spread_over_processes_choose_no_epoch(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    context, _ = run(keep="leakage")
    with pytest.raises(NescioError, match=r"train\.keep: leakage needs an engine"):
        train(context, tmp_path, lambda done, total, word: None)
