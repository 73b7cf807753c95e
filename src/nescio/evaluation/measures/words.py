"""Words: plain questions asked without their options, and whether the first option that an answer names is right."""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from typing import Any

from nescio.core.prompts import Message
from nescio.core.text import occurrences
from nescio.core.wilson import wilson
from nescio.evaluation.base import Ask, Found, Measure, Task, batches, generate
from nescio.evaluation.columns import Column, measures
from nescio.evaluation.statistics import change_low, mcnemar

MAX_TOKENS = 32
"""Most tokens of an answer in words."""
_BATCH = 40


@measures.register("words")
@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Measure):
    """Share of plain questions that are answered right in words, under each row's own sentences and guidance.

    The likelihood of options compares four given texts, so a model keeps it that begins every answer with an apology.

    Attributes:
        count: Number of questions, as many of each field as of the others.
    """

    count: int = 200

    longest = MAX_TOKENS
    columns = (
        Column(
            key="words", header="words [95 %]", place="main_if_measured",
            meaning="share of plain questions answered right in words; an answer that names no option is wrong",
        ),
        Column(
            key="words_change_low", header="words change, at least", place="detail",
            meaning="lower bound of the change of words from the first row, one-sided at 95 %",
        ),
        Column(
            key="words_mcnemar_p", header="words, McNemar's p", kind="p", place="detail",
            meaning="p-value of McNemar's exact test of words against the first row",
        ),
    )  # fmt: skip

    def asks(self, task: Task) -> Iterator[Ask]:
        """Ask the questions, without their options."""
        questions = drawn(self.count)
        task.say_if_fewer("questions in words", self.count, len(questions))
        for batch in batches(questions, _BATCH):
            conversations = [question.messages for question in batch]
            yield Ask(
                kind="words",
                decides=[conversations, MAX_TOKENS],
                work=partial(generate, conversations=conversations, max_tokens=MAX_TOKENS),
            )

    def cost(self, samples: float) -> float:
        """Count the questions."""
        return self.count

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Compare each row with the first on the same questions."""
        questions = drawn(self.count)
        rights = list[list[bool]]()
        for one in found:
            answers: list[str] = one.given["words"]
            rights.append([is_right(*pair) for pair in zip(questions, answers, strict=True)])
            one.details["words"] = [
                asdict(question) | {"said": said, "right": right}
                for question, said, right in zip(questions, answers, rights[-1], strict=True)
            ]
        return [
            {
                "words": sum(own) / len(own),
                "words_ci95": list(wilson(sum(own), len(own))),
                "words_change_low": change_low(own, rights[0]),
                "words_mcnemar_p": mcnemar(own, rights[0]),
                "words_change_high": -change_low(rights[0], own),
            }
            for own in rights
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainQuestion:
    """A question that can be answered in words without its options.

    Attributes:
        id: Unique in the set.
        field: Subject.
        level: Difficulty, 1 to 3: what a small child knows, what a pupil knows, what fewer people know.
        question: Text.
        options: Four words or short phrases; none has another as whole words in it.
        answer: Number of the right option, from 0.
    """

    id: str
    field: str
    level: int
    question: str
    options: tuple[str, ...]
    answer: int

    @property
    def messages(self) -> list[Message]:
        """The question as it is asked."""
        return [Message(role="user", content=self.question)]


def all_questions() -> list[PlainQuestion]:
    """Return this project's own set, in the order of its file."""
    text = (files("nescio.evaluation") / "words.jsonl").read_text(encoding="utf-8")
    rows = map(json.loads, text.splitlines())
    return [PlainQuestion(**row | {"options": tuple(row["options"])}) for row in rows]


def drawn(count: int) -> list[PlainQuestion]:
    """Return so many questions, one of each field in turn. The order is always the same, so fewer begin more.

    Args:
        count: How many; all if there are fewer.
    """
    return _in_turn()[:count]


def set_aside(count: int) -> list[PlainQuestion]:
    """Return so many questions from the end of that order: what chooses an epoch is not what the table asks.

    Args:
        count: How many; all if there are fewer. A table of all questions but these has none in common with them.
    """
    return _in_turn()[::-1][:count]


def _in_turn() -> list[PlainQuestion]:
    by_field: dict[str, list[PlainQuestion]] = defaultdict(list)
    for question in sorted(all_questions(), key=lambda each: (zlib.crc32(each.id.encode()), each.id)):
        by_field[question.field].append(question)
    turns = [(turn, field, question) for field, own in by_field.items() for turn, question in enumerate(own)]
    return [question for _, _, question in sorted(turns, key=lambda each: each[:2])]


def is_right(question: PlainQuestion, said: str) -> bool:
    """Whether the first option that an answer names is the right one: as whole words, in any case and Unicode form."""
    places = [occurrences(said, option, ignore_case=True) for option in question.options]
    # Where two begin at one place the longer is named: "New York" says "New York" rather than "New".
    named = [(own[0][0], -own[0][1], number) for number, own in enumerate(places) if own]
    return bool(named) and min(named)[2] == question.answer
