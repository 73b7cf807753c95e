"""GLiNER: what it is asked, what becomes of its answers, and what is said where it is not installed."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from odd_letters import LETTERS, assert_places_are_right, odd_texts

from nescio.core.errors import NescioError
from nescio.pii.registry import load_detector


class Model:
    """Answers as GLiNER 0.2 does: entities with offsets and scores, of texts of at most 384 words."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], list[str], float]] = []

    def batch_predict_entities(
        self, texts: list[str], labels: Sequence[str], threshold: float = 0.5
    ) -> list[list[dict[str, Any]]]:
        self.asked.append((texts, list(labels), threshold))
        known = {"Ann Lee": ("person", 0.9), "May 3, 1981": ("date of birth", 0.6), "x99": ("passport number", 0.4)}
        return [
            [
                {
                    "start": text.index(word),
                    "end": text.index(word) + len(word),
                    "text": word,
                    "label": label,
                    "score": p,
                }
                for word, (label, p) in known.items()
                if word in " ".join(text.split(" ")[:384]) and label in labels and p >= threshold
            ]
            for text in texts
        ]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    pretrained = SimpleNamespace(from_pretrained=lambda name: model)
    monkeypatch.setitem(sys.modules, "gliner", SimpleNamespace(GLiNER=pretrained))
    return model


TEXT = "Ann Lee, born on May 3, 1981, has the passport x99."


def test_its_labels_have_types(model: Model) -> None:
    spans = load_detector("gliner:some/model", ignore=()).find([TEXT])[0]
    assert [(span.type, span.label, span.text) for span in spans] == [
        ("person", "PERSON", "Ann Lee"),
        ("birth_date", "DATE_OF_BIRTH", "May 3, 1981"),
        ("licence", "PASSPORT_NUMBER", "x99"),
    ]
    assert all(TEXT[span.start : span.end] == span.text for span in spans)


def test_ignored_labels_are_not_asked_for_and_thresholds_are_by_type(model: Model) -> None:
    detector = load_detector("gliner:m", ignore=["DATE"], thresholds={"licence": 0.5, "person": 0.95})
    assert [span.text for span in detector.find([TEXT])[0]] == ["May 3, 1981"]
    ((_, labels, threshold),) = model.asked
    assert "date" not in labels and "date of birth" in labels and threshold == 0.35


def test_texts_longer_than_it_reads_are_cut(model: Model) -> None:
    long = "It was a fine day. " * 400
    (spans,) = load_detector("gliner:m").find([long + "Ann Lee came."])
    assert [(span.start, span.text) for span in spans] == [(len(long), "Ann Lee")]
    assert all(len(texts) <= 16 for texts, _, _ in model.asked)


@given(text=odd_texts())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the model has no state that matters
def test_letters_that_are_longer_in_capitals_move_nothing(model: Model, text: str) -> None:
    detector = load_detector("gliner:m")
    assert_places_are_right(detector, text)
    (spans,) = detector.find([f"{LETTERS} {text} Ann Lee"])
    assert "Ann Lee" in [span.text for span in spans]


@pytest.mark.skipif(find_spec("gliner") is not None, reason="GLiNER is installed")
def test_where_it_is_not_installed_the_extra_is_named() -> None:
    with pytest.raises(
        NescioError, match=r"detector gliner:m: gliner is not installed; run `pip install 'nescio\[gliner\]'`"
    ):
        load_detector("gliner:m")


def test_mistakes_are_one_line(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NescioError, match="names no model; use gliner:MODEL"):
        load_detector("gliner:")

    def fail(name: str) -> Model:
        raise RuntimeError("no such model\nat all")

    monkeypatch.setitem(sys.modules, "gliner", SimpleNamespace(GLiNER=SimpleNamespace(from_pretrained=fail)))
    with pytest.raises(NescioError, match=r"gliner:m: cannot be loaded \(no such model\); give a folder or a hub id"):
        load_detector("gliner:m")
