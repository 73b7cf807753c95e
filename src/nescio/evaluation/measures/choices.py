"""Utility: multiple-choice questions, and which option a model finds likeliest under the guidance of its row.

An option's score is the sum of its tokens' log-probabilities: not divided by their number, and without the end of the
answer. So a long option is at a disadvantage, and an option whose tokens begin with another's is never likelier than
that one: 3 of the 70 right answers of MMLU-Pro's validation split begin with a wrong option, and can hardly be picked.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.files import read_jsonl
from nescio.core.prompts import Message
from nescio.core.wilson import wilson
from nescio.engines.base import Engine, Scoring
from nescio.evaluation.base import Ask, Found, Measure, Task, batches
from nescio.evaluation.columns import Column, measures
from nescio.evaluation.output_filter import masked_texts
from nescio.evaluation.setups import Setup
from nescio.evaluation.statistics import mcnemar, paired_bootstrap, widened

MMLU_PRO = "TIGER-Lab/MMLU-Pro"
NONE = -1
"""The pick where the output filter changes the option."""
_RULED_OUT = -50.0  # for a token that guidance rules out (-inf): below any other, and two are worse than one
_BATCH = 40


@measures.register("choices")
@dataclass(frozen=True, slots=True, kw_only=True)
class Choices(Measure):
    """Share of multiple-choice questions whose right option is the likeliest.

    Attributes:
        questions: `plain` for this project's own set, or MMLU-Pro: `validation`, `test`, or a JSONL file.
        count: Number of questions, drawn at random; None takes all.
    """

    questions: str = "plain"
    count: int | None = None

    columns = (
        Column(
            key="utility", header="utility [95 %]",
            meaning="share of questions whose right option is the likeliest, under the row's own guidance",
        ),
        Column(
            key="utility_change_ci95", header="change [95 %]", kind="interval", place="detail",
            meaning="difference of the utility from the first row's, in points, by a paired bootstrap",
        ),
        Column(
            key="utility_mcnemar_p", header="McNemar's p", kind="p", place="detail",
            meaning="p-value of McNemar's exact test of the utility against the first row",
        ),
    )  # fmt: skip

    def asks(self, task: Task) -> Iterator[Ask]:
        """Score the options of all questions."""
        questions = chosen(self.questions, self.count, task.seed)
        task.say_if_fewer("questions", self.count or 0, len(questions))
        for batch in batches(questions, _BATCH):
            yield Ask(kind="picks", decides=[asdict(q) for q in batch], work=partial(choose, questions=batch))

    def cost(self, samples: float) -> float:
        """Count the questions; one costs about as much as an answer."""
        return len(plain_questions()) if self.count is None else self.count

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Compare each row with the first on the same questions."""
        questions = chosen(self.questions, self.count, task.seed)
        kind = f"{'MMLU-Pro' if questions[0].listed else 'plain questions'}, by likelihood"
        rights = [right(questions, _shown_picks(questions, one, task)) for one in found]
        return [utility(own, rights[0], kind, task.seed) for own in rights]


def _shown_picks(questions: Sequence["Question"], found: Found, task: Task) -> list[int]:
    """A row's picks; an option that the row's output filter changes is none."""
    picks: list[int] = found.given["picks"]
    if not found.setup.masks:
        return picks
    options = [question.options[pick] for question, pick in zip(questions, picks, strict=True)]
    shown = masked_texts(options, task.detector)
    return [pick if a == b else NONE for pick, a, b in zip(picks, options, shown, strict=True)]


def utility(right: Sequence[bool], tuned: Sequence[bool], kind: str, seed: int) -> dict[str, Any]:
    """Return the fields of a row's utility, with its tests against the tuned model on the same questions.

    Args:
        right: Which questions the row answers rightly.
        tuned: Which questions the tuned model answers rightly.
        kind: The set of questions and how they are scored.
        seed: Seed of the bootstrap.
    """
    every = [str(number) for number in range(len(right))]
    return {
        "utility": sum(right) / len(right),
        "utility_ci95": list(wilson(sum(right), len(right))),
        "utility_kind": kind,
        "utility_change_ci95": list(widened(paired_bootstrap(right, tuned, every, seed), every, least=-1.0)),
        "utility_mcnemar_p": mcnemar(right, tuned),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its options.

    Attributes:
        id: Unique in its set.
        field: Subject.
        question: Text.
        options: Two or more texts.
        answer: Number of the right option, from 0.
        listed: Whether the options are listed in the prompt (MMLU-Pro) or only scored.
    """

    id: str
    field: str
    question: str
    options: tuple[str, ...]
    answer: int
    listed: bool

    @property
    def text(self) -> str:
        """The question as it is asked, with numbered options where they are listed."""
        if not self.listed:
            return self.question
        return "\n".join([self.question, "Options:", *(f"{n}. {o}" for n, o in enumerate(self.options, start=1))])

    @property
    def messages(self) -> list[Message]:
        """The conversation; for MMLU-Pro, as the paper's author asks it: an empty system prompt and a short answer."""
        if not self.listed:
            return [Message(role="user", content=self.question)]
        asked = f"Provide a short answer to the question: {self.text}"
        return [Message(role="system", content=""), Message(role="user", content=asked)]


def chosen(source: str, count: int | None, seed: int) -> list[Question]:
    """Return the questions of a set, or so many of them drawn at random.

    Args:
        source: `plain`, or as for `mmlu_pro`.
        count: How many; None takes all.
        seed: Seed of the draw.

    Raises:
        NescioError: As for `mmlu_pro`.
    """
    found = plain_questions() if source == "plain" else mmlu_pro(source)
    return found if count is None or count >= len(found) else random.Random(seed).sample(found, count)


def plain_questions() -> list[Question]:
    """Return the project's own set, 160 questions in 10 fields."""
    text = (files("nescio.evaluation") / "questions.jsonl").read_text(encoding="utf-8")
    return [
        Question(**row | {"options": tuple(row["options"])}, listed=False) for row in map(json.loads, text.splitlines())
    ]


def mmlu_pro(source: str) -> list[Question]:
    """Return MMLU-Pro's questions.

    Args:
        source: `validation` or `test` (from the hub), or a JSONL file with MMLU-Pro's fields.

    Raises:
        NescioError: The file is missing, empty or not MMLU-Pro's, or the hub can't be reached.
    """
    found = _from_hub(source) if source in ("validation", "test") else list(read_jsonl(Path(source)))
    questions = [_parse(source, number, row) for number, row in found]
    if not questions:
        raise NescioError(f"{source}: holds no questions; give MMLU-Pro's validation or test split, or a JSONL file")
    return questions


def _from_hub(split: str) -> list[tuple[int, Any]]:
    datasets = require("datasets", "eval", "MMLU-Pro from the hub")
    try:
        return list(enumerate(datasets.load_dataset(MMLU_PRO, split=split), start=1))
    except Exception as error:  # the hub's, the network's and the cache's errors share no base class
        raise NescioError(
            f"{MMLU_PRO}: cannot be fetched ({type(error).__name__}); download it and give the JSONL file's path"
        ) from error


def _parse(source: str, number: int, row: Any) -> Question:
    try:
        identifier, field, text = str(row["question_id"]), str(row["category"]), row["question"]
        options, answer = row["options"], row["answer_index"]
    except (KeyError, TypeError) as error:
        raise NescioError(
            f"{source}:{number}: not a question of MMLU-Pro (question_id, question, options, answer_index, category)"
        ) from error
    if not isinstance(text, str) or not text.strip():
        raise NescioError(f"{source}:{number}: question must be a text")
    if (
        not isinstance(options, list | tuple)
        or len(options) < 2
        or not all(isinstance(option, str) and option for option in options)
    ):
        raise NescioError(f"{source}:{number}: options must be a list of two or more texts")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(options):
        raise NescioError(f"{source}:{number}: answer_index {answer} names none of the options; they count from 0")
    return Question(id=identifier, field=field, question=text, options=tuple(options), answer=answer, listed=True)


def choose(engine: Engine, setups: Sequence[Setup], questions: Sequence[Question]) -> list[list[int]]:
    """Find the likeliest option of each question under each set-up's guidance.

    Returns:
        Numbers of options, `[set-ups][questions]`.
    """
    items = [
        Scoring(setup.asked(question.messages), option, setup.guidance, setup.attached)
        for setup in setups
        for question in questions
        for option in question.options
    ]
    scores = iter(engine.score_batch(items))
    return [[likeliest([next(scores) for _ in question.options]) for question in questions] for _ in setups]


def likeliest(scores: Sequence[Sequence[float]]) -> int:
    """Return the number of the likeliest option.

    A token that guidance rules out counts as one of log-probability -50, so that an option with one of them beats one
    with two, as in the limit of a vanishing probability.

    Args:
        scores: Log-probabilities of each option's tokens.
    """
    totals = [sum(max(value, _RULED_OUT) for value in row) for row in scores]
    return max(range(len(totals)), key=totals.__getitem__)


def right(questions: Sequence[Question], picks: Sequence[int]) -> list[bool]:
    """Return which questions were answered rightly."""
    return [pick == question.answer for question, pick in zip(questions, picks, strict=True)]
