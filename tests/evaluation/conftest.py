"""A task as an evaluation has it, with what a test does not say made up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.data.samples import Sample
from nescio.evaluation.base import Task
from nescio.evaluation.one_engine import OneEngine
from nescio.evaluation.setups import Setup
from nescio.pii.base import Span


class Finds:
    """Finds one word, under a name that does not tell which."""

    name = "finds"

    def __init__(self, word: str) -> None:
        self.word = word

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        places = [text.find(self.word) for text in texts]
        return [[Span(at, at + len(self.word), "X", self.word)] if at >= 0 else [] for at in places]


SAMPLES = [
    Sample(f"d{n}", f"d{n}", [{"role": "user", "content": f"Who is {word}?"}], "Tom.", "PERSON", "Tom")
    for n, word in enumerate(("Anna", "Tom", "my friend"))
]


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Task]:
    """Make a task: `make_task(folder=..., samples=..., word="Tom")`."""

    def make(
        folder: Path | str = "x", kept: Path | None = None, word: str = "Tom", engine: Any = None, **more: Any
    ) -> Task:
        samples = more.pop("samples", SAMPLES)
        usual: dict[str, Any] = {
            "setups": [Setup("tuned", "tuned", str(folder))], "samples": samples, "own": [{}] * len(samples),
            "training": lambda count: [(one, {}) for one in samples[:count]], "max_tokens": 8, "base": str(folder),
            "protect": "", "detector": Finds(word), "engine": engine or OneEngine(),
            "answers": kept or tmp_path / "kept", "verdicts": tmp_path / "verdicts.jsonl",
            "note": lambda text: None,
        }  # fmt: skip
        return Task(**usual | more)

    return make
