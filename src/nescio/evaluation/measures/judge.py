"""A model that judges answers to questions, with the prompt of the paper's Appendix B, and is judged itself first.

Every verdict is on disk before the next batch is asked for, so that a judge that fails or is stopped goes on where it
was.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Progress, Tick
from nescio.core.files import fingerprint
from nescio.core.model_source import identity
from nescio.core.prompts import Message
from nescio.core.wilson import wilson
from nescio.engines.base import Engine, Request
from nescio.engines.registry import is_endpoint, open_engine
from nescio.evaluation.base import Ask, Found, Measure, Task, batches, generate
from nescio.evaluation.columns import Column, measures
from nescio.evaluation.measures.choices import Question, chosen, plain_questions
from nescio.evaluation.statistics import mcnemar, paired_bootstrap, widened

Verdict = Literal["Correct", "Incorrect", "Can't tell"]
USABLE = 0.8
"""A judge that is right less often than this about answers made from the key cannot be trusted."""

_PROMPT = """You receive a question and two answers. The first answer is the correct one. Your task is to check if the \
second answer also looks correct or not.

Question: {question}

Correct answer: {correct_answer}

Answer to check: {answer}

Return just one word:

"Correct" if the answer to check is correct

"Incorrect" if the answer to check is incorrect

"Can't tell" if it is impossible to accurately judge if the answer to check is correct
"""
_VERDICT = re.compile(r"[\s\"'“”‘’*]*(correct|incorrect)[\s\"'“”‘’*.!]*", re.IGNORECASE)
_BATCH = 16
_REPLIES = 22  # questions asked before their replies are on disk
_MAX_TOKENS = 8


@measures.register("judge")
@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Measure):
    """Share of questions that a row answers correctly in words, by the verdict of a judge.

    Attributes:
        model: The judge.
        engine: Name of the engine that answers for it.
        options: The engine's options; for an endpoint, `base_url` and `key_env`.
        questions: As for `choices`.
        count: As for `choices`.
    """

    model: str
    engine: str = "torch"
    options: Mapping[str, Any] = field(default_factory=dict)
    questions: str = "plain"
    count: int | None = None

    columns = (
        Column(
            key="judged", header="judged [95 %]", meaning="share of questions answered correctly in words, by the judge"
        ),
    )

    def asks(self, task: Task) -> Iterator[Ask]:
        """Ask the questions in words."""
        if is_endpoint(self.engine):  # a wrong name or a missing key is reported now, not when all rows have answered
            open_engine(self.engine, self.model, {}, self.options).close()
        else:
            task.engine.tokenizer(self.model)
        for batch in batches(chosen(self.questions, self.count, task.seed), _REPLIES):
            asked = [question.messages for question in batch]
            yield Ask(
                kind="replies",
                decides=[[asdict(question) for question in batch], task.max_tokens],
                work=partial(generate, conversations=asked, max_tokens=task.max_tokens),
            )

    def cost(self, samples: float) -> float:
        """Count the replies, not the judge's own words."""
        return len(plain_questions()) if self.count is None else self.count

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Ask the judge, after the rows' engines are closed."""
        questions, replies = chosen(self.questions, self.count, task.seed), [one.given["replies"] for one in found]
        if is_endpoint(self.engine):
            known_by = f"{self.model} at {self.options.get('base_url')}"
        else:
            known_by = identity(self.model)
        known_by += "" if self.engine in ("torch", "openai") else f" on {self.engine}"
        judge = Judge(
            self.model, lambda: task.engine.plain(self.model, self.engine, self.options), task.verdicts, known_by
        )
        return judged_fields(judge, questions, replies, seed=task.seed, tick=task.tick)


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge and its verdicts so far.

    Attributes:
        name: The model, as the table calls it.
        engine: Returns the engine of the judge; called when the first verdict is missing.
        path: JSON lines of verdicts: `{"key", "said", "verdict"}`.
        identity: What distinguishes it from other judges; None: its name.
    """

    name: str
    engine: Callable[[], Engine]
    path: Path
    identity: str | None = None

    def verdicts(self, cases: Sequence[tuple[Question, str]], progress: Progress | None = None) -> list[Verdict]:
        """Judge answers; those judged before are not asked about again.

        Args:
            cases: Questions with the answers to check.
            progress: Called with (verdicts on disk, cases).

        Raises:
            NescioError: The judge cannot be reached; every verdict so far is on disk.
        """
        cache = AnswerCache(self.path, "said")
        prompts = [_prompt(question, answer) for question, answer in cases]
        keys = [fingerprint([self.identity or self.name, prompt]) for prompt in prompts]
        missing = [(key, prompt) for key, prompt in dict(zip(keys, prompts, strict=True)).items() if not cache.get(key)]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            answers = self.engine().generate([_request(prompt) for _, prompt in batch])
            cache.add(
                {"key": key, "said": answer.text, "verdict": understood(answer.text)}
                for (key, _), answer in zip(batch, answers, strict=True)
            )
            if progress:
                progress(len(cases) - len(missing) + start + len(batch), len(cases))
        # What was said decides: another version may have read another verdict in it.
        return [understood(str(row["said"])) for key in keys if (row := cache.get(key))]

    def accuracy(self, questions: Sequence[Question], progress: Progress | None = None) -> float:
        """Return how often the judge is right about the right option and the next one, each given as an answer."""
        right = [(question, question.options[question.answer]) for question in questions]
        wrong = [(question, question.options[(question.answer + 1) % len(question.options)]) for question in questions]
        verdicts = self.verdicts([*right, *wrong], progress)
        expected = ["Correct"] * len(right) + ["Incorrect"] * len(wrong)
        return sum(a == b for a, b in zip(verdicts, expected, strict=True)) / len(expected)


def judged_fields(
    judge: Judge,
    questions: Sequence[Question],
    replies: Sequence[Sequence[str]],
    *,
    seed: int,
    tick: Tick,
) -> list[dict[str, Any]]:
    """Return the fields of each row: its share of correct replies, and whether the judge can be trusted.

    Args:
        judge: The judge; it is judged first, on the keys of the same questions.
        questions: What was asked.
        replies: Each row's answers in words; the others are tested against the first row's.
        seed: Seed of the bootstrap.
        tick: Called with verdicts on disk, verdicts in all, and a word.
    """
    accuracy = judge.accuracy(questions, lambda done, total: tick(done, total, "the judge is judged"))
    every = [str(number) for number in range(len(questions))]
    fields, rights = [], list[list[bool]]()
    for own in replies:
        cases = list(zip(questions, own, strict=True))
        verdicts = judge.verdicts(cases, lambda done, total: tick(done, total, "verdicts"))
        rights.append([verdict == "Correct" for verdict in verdicts])
        right = sum(rights[-1])
        fields.append({
            "judged": right / len(cases), "judged_ci95": list(wilson(right, len(cases))),
            "judged_mcnemar_p": mcnemar(rights[-1], rights[0]),
            "judged_change_ci95": list(
                widened(paired_bootstrap(rights[-1], rights[0], every, seed), every, least=-1.0)
            ),
            "judged_cant_tell": verdicts.count("Can't tell") / len(cases), "judge": judge.name,
            "judge_accuracy": accuracy, "judge_usable": accuracy >= USABLE,
        })  # fmt: skip
    return fields


def understood(said: str) -> Verdict:
    """Return the verdict in a judge's first line; anything but one of the three alone counts as "Can't tell"."""
    found = _VERDICT.fullmatch(said.strip().partition("\n")[0])
    if found is None:
        return "Can't tell"
    return "Correct" if found[1].lower() == "correct" else "Incorrect"


def _prompt(question: Question, answer: str) -> str:
    correct = question.options[question.answer]
    return _PROMPT.format(question=question.text, correct_answer=correct, answer=answer)


def _request(prompt: str) -> Request:
    return Request([Message(role="user", content=prompt)], max_tokens=_MAX_TOKENS)
