"""What a table keeps on the disk, and when it asks again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.engines.torch import TorchEngine
from nescio.evaluation import evaluate as room
from nescio.evaluation.evaluate import Subject
from nescio.evaluation.kept import Kept
from nescio.evaluation.measure import Plan
from nescio.pii.detector import Span


class Finds:
    """Finds one word, under a name that does not tell which."""

    name = "finds"

    def __init__(self, word: str) -> None:
        self.word = word

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        places = [text.find(self.word) for text in texts]
        return [[Span(at, at + len(self.word), "X", self.word)] if at >= 0 else [] for at in places]


def test_a_fit_under_other_masks_is_another_fit(
    tmp_path: Path, tiny: Callable[..., TorchEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str) -> TorchEngine:
        loaded.append(name)
        return tiny()

    monkeypatch.setattr(room, "load", load)
    answers: dict[str, list[dict[str, Any]]] = {
        "x": [
            {"dialog_id": who, "messages": [{"role": "user", "content": f"I am {who}"}], "answer": "hello", "spans": []}
            for who in ("Tom", "Anna")
        ]
    }
    subject = Subject([], Plan([], 1), [], "owner/base", "")
    for word, times in (("Tom", 1), ("Tom", 1), ("Anna", 2)):
        room._fits(subject, answers, Finds(word), Kept(tmp_path / "kept"))
        assert len(loaded) == times
