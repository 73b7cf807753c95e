"""Unlearning benchmarks in their published forms, one file each: what is to be forgotten, and what is to be kept.

Each becomes the same kind of questions, so that all are trained on and measured alike. No data of theirs is in here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nescio.core.prompts import Message
from nescio.core.registry import Registry
from nescio.core.text import occurrences

Side = Literal["forget", "retain", "outside", "general"]
"""The half to forget, the half to keep, people in neither, and questions that are nobody's data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of a benchmark with its answer, or a text with its continuation.

    Attributes:
        id: Unique in the benchmark.
        subject: Whom or what it is about; questions of one subject stay together.
        side: The part of the benchmark.
        task: The benchmark's own name of the task.
        question: The question, or the text that is continued.
        answer: The answer, or the continuation.
        is_completion: Whether it is a text to be continued, rather than a question.
        values: Personal data in the answer, where the benchmark records it.
        paraphrases: The same asked and answered in other words.
        wrong: Wrong answers, in the words of the first paraphrase.
        inverse: The question turned round: from the value to the person.
    """

    id: str
    subject: str
    side: Side
    task: str
    question: str
    answer: str
    is_completion: bool = False
    values: tuple[str, ...] = ()
    paraphrases: tuple[tuple[str, str], ...] = ()
    wrong: tuple[str, ...] = ()
    inverse: tuple[str, str] | None = None

    @property
    def messages(self) -> list[Message]:
        """The question as it is asked."""
        return [Message(role="user", content=self.question)]

    def as_dialog(self) -> dict[str, Any]:
        """Return the line of a dialog file, with the values that stand in the answer as its personal data."""
        messages = [*self.messages, Message(role="assistant", content=self.answer)]
        said = [value for value in self.values if occurrences(self.answer, value)]
        pii = {f"VALUE-{number}": value for number, value in enumerate(said)}
        return {"id": self.id, "messages": messages} | ({"pii": pii} if pii else {})


Reader = Callable[[Path | None], list[Question]]
"""Reads a benchmark from a folder, or from the hub where there is none."""

BENCHMARKS: Registry[Reader] = Registry("nescio.benchmarks", "benchmark", "nescio.data.benchmarks")
