"""The report says what was done, not what is usual."""

from typing import Any

import pytest

from nescio.pipeline.recipe import TrainSection
from nescio.report import making


def told(stage: str, **recipe: Any) -> dict[str, Any]:
    (found,) = making.stages(recipe, {"stages": {stage: {}, "report": {}}})
    return found


@pytest.mark.parametrize(
    ("method", "words", "has_beta"),
    [
        ("orpo", "with ORPO.", True),
        ("simnpo", "with SimNPO, on the rejected answers.", True),
        ("sft_scrubbed", "by fine-tuning on the dialogs' own answers, their personal data masked.", False),
    ],
)
def test_the_method_is_the_recipes(method: str, words: str, has_beta: bool) -> None:
    found = told("train", train={"method": method, "beta": 0.1, "epochs": 3})
    assert found["text"] == f"An adapter was trained on the pairs {words}"
    assert ("β: 0.1" in found["facts"]) is has_beta and "epochs: 3" in found["facts"]


def test_every_method_has_words() -> None:
    assert set(making._METHODS) == set(TrainSection.model_fields["method"].annotation.__args__)  # type: ignore[union-attr]


def test_twins_are_told_where_there_are_any() -> None:
    sections = {"pairs": {"twins": True, "positive": "Hush."}}
    assert told("pairs", **sections)["text"].endswith(
        "(rejected) under the protect prompt, and the other way round under the reveal prompt."
    )
    assert told("pairs", **sections)["facts"] == ["protect prompt: Hush."]
    alone = told("pairs", pairs={"twins": False, "positive": "Hush."})
    assert alone["text"].endswith("(rejected).") and alone["facts"] == []
    assert "left out in training" in told("pairs", **sections, train={"method": "npo"})["text"]


def test_the_subtraction_is_told() -> None:
    found = told("subtract", subtract={"coefficient": 0.25, "relu": False})
    assert "subtracted from the base model" in found["text"] and "fraction: 0.25" in found["facts"]
