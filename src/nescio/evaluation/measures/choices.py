"""Multiple-choice questions, and which option a model finds likeliest under the guidance of its row.

Two sets: `questions.jsonl`, plain questions written for this project that a small model can answer, and MMLU-Pro from
the hub or a file, asked as the paper's author asks it.

An option's score is the sum of its tokens' log-probabilities: not divided by their number, and without the end of the
answer. So a long option has the odds against it, and one whose tokens begin with another's is never likelier than that
one: 3 of the 70 right answers of MMLU-Pro's validation split begin with a wrong option, and can hardly be picked.

Knows engines and guidance; nothing of personal data.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.core.prompts import Message
from nescio.engines.base import Engine, Request, Scoring
from nescio.evaluation.setups import Setup

MMLU_PRO = "TIGER-Lab/MMLU-Pro"
NONE = -1
"""The pick where no option is left: an output filter destroyed it."""
_RULED_OUT = -50.0  # for a token that guidance rules out (-inf): below any other, and two are worse than one


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its options.

    Attributes:
        id: Unique in its set.
        field: What it is about.
        question: Its text.
        options: Two or more.
        answer: Number of the right one, from 0.
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
        """The question as it is put, its options numbered where they are listed."""
        if not self.listed:
            return self.question
        return "\n".join([self.question, "Options:", *(f"{n}. {o}" for n, o in enumerate(self.options, start=1))])

    @property
    def messages(self) -> list[Message]:
        """The conversation; for MMLU-Pro the author's: an empty system prompt, and a short answer asked for."""
        if not self.listed:
            return [Message(role="user", content=self.question)]
        asked = f"Provide a short answer to the question: {self.text}"
        return [Message(role="system", content=""), Message(role="user", content=asked)]


def plain_questions() -> list[Question]:
    """The project's own set, 160 questions in 10 fields."""
    text = (files("nescio.evaluation") / "questions.jsonl").read_text(encoding="utf-8")
    return [
        Question(**row | {"options": tuple(row["options"])}, listed=False) for row in map(json.loads, text.splitlines())
    ]


def mmlu_pro(source: str) -> list[Question]:
    """MMLU-Pro's questions.

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
    try:
        import datasets
    except ImportError as error:
        raise NescioError("MMLU-Pro from the hub: run `pip install 'nescio[eval]'`, or give a JSONL file") from error
    try:
        return list(enumerate(datasets.load_dataset(MMLU_PRO, split=split), start=1))
    except Exception as error:  # the hub's, the network's and the cache's errors share no base class
        raise NescioError(
            f"{MMLU_PRO}: cannot be fetched ({type(error).__name__}); download it and give the JSONL file's path"
        ) from error


def _parse(source: str, number: int, row: Any) -> Question:
    try:
        options, answer = tuple(row["options"]), int(row["answer_index"])
        question = Question(
            str(row["question_id"]), str(row["category"]), str(row["question"]), options, answer, listed=True
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NescioError(
            f"{source}:{number}: not a question of MMLU-Pro (question_id, question, options, answer_index, category)"
        ) from error
    if (
        isinstance(row["options"], str)
        or not 0 <= answer < len(options)
        or not all(isinstance(option, str) and option for option in options)
    ):
        raise NescioError(
            f"{source}:{number}: answer_index {answer} names none of the options, or they are no list of texts"
        )
    return question


def choose(engine: Engine, setups: Sequence[Setup], questions: Sequence[Question]) -> list[list[int]]:
    """The likeliest option of each question under each set-up's guidance.

    Returns:
        Numbers of options, for each set-up and question.
    """
    items = [
        Scoring(setup.asked(question.messages), option, setup.guidance, setup.attached)
        for setup in setups
        for question in questions
        for option in question.options
    ]
    scores = iter(engine.score_batch(items))
    return [[likeliest([next(scores) for _ in question.options]) for question in questions] for _ in setups]


def reply(engine: Engine, setups: Sequence[Setup], questions: Sequence[Question], max_tokens: int) -> list[list[str]]:
    """Greedy answers in words, for a judge.

    Returns:
        Texts, for each set-up and question.
    """
    requests = [
        Request(setup.asked(question.messages), setup.guidance, adapter=setup.attached, max_tokens=max_tokens)
        for setup in setups
        for question in questions
    ]
    texts = [answer.text for answer in engine.generate(requests)]
    return [texts[start : start + len(questions)] for start in range(0, len(texts), len(questions))]


def likeliest(scores: Sequence[Sequence[float]]) -> int:
    """The number of the likeliest option.

    A token that guidance rules out counts as one of log-probability -50, so that an option with one of them beats one
    with two, as in the limit of a vanishing probability.

    Args:
        scores: Log-probabilities of each option's tokens.
    """
    totals = [sum(max(value, _RULED_OUT) for value in row) for row in scores]
    return max(range(len(totals)), key=totals.__getitem__)


def right(questions: Sequence[Question], picks: Sequence[int]) -> list[bool]:
    """Which questions were answered rightly."""
    return [pick == question.answer for question, pick in zip(questions, picks, strict=True)]
