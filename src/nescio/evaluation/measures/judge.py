"""A model that judges answers to questions, with the prompt of the paper's Appendix B; and how far it can be trusted.

Every verdict is on the disk before the next batch is asked for, so that a judge that fails, or is stopped, goes on
where it was. Knows engines and questions; nothing of the models that are judged.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nescio.core.files import append_jsonl, fingerprint, read_appended
from nescio.core.prompts import Message
from nescio.engines.base import Engine, Progress, Request
from nescio.evaluation.measures.choices import Question
from nescio.evaluation.statistics import mcnemar, paired_bootstrap, wilson

Verdict = Literal["Correct", "Incorrect", "Can't tell"]
USABLE = 0.8
"""A judge that is right less often than this about answers made from the key is not worth listening to."""

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
_MAX_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge and its verdicts so far.

    Attributes:
        name: The model, as the table calls it.
        engine: What it is asked through.
        path: JSON lines of verdicts: `{"key", "said", "verdict"}`.
        identity: What tells it from other judges, whose verdicts are not taken for its own; None: its name.
    """

    name: str
    engine: Engine
    path: Path
    identity: str | None = None

    def verdicts(self, cases: Sequence[tuple[Question, str]], progress: Progress | None = None) -> list[Verdict]:
        """Judge answers; those judged before are not asked about again.

        Args:
            cases: Questions with the answers to check.
            progress: Called with (verdicts there, cases).

        Raises:
            NescioError: The judge can't be reached; every verdict so far is kept.
        """
        known = {row["key"]: understood(row["said"]) for row in read_appended(self.path)}
        prompts = [_prompt(question, answer) for question, answer in cases]
        keys = [fingerprint([self.identity or self.name, prompt]) for prompt in prompts]
        missing = [(key, prompt) for key, prompt in dict(zip(keys, prompts, strict=True)).items() if key not in known]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            answers = self.engine.generate([_request(prompt) for _, prompt in batch])
            rows = [
                {"key": key, "said": answer.text, "verdict": understood(answer.text)}
                for (key, _), answer in zip(batch, answers, strict=True)
            ]
            append_jsonl(self.path, rows)
            known |= {row["key"]: understood(row["said"]) for row in rows}
            if progress:
                progress(len(cases) - len(missing) + start + len(batch), len(cases))
        return [known[key] for key in keys]

    def accuracy(self, questions: Sequence[Question], progress: Progress | None = None) -> float:
        """How often the judge is right about the right option and the one after it, each given as an answer."""
        right = [(question, question.options[question.answer]) for question in questions]
        wrong = [(question, question.options[(question.answer + 1) % len(question.options)]) for question in questions]
        verdicts = self.verdicts([*right, *wrong], progress)
        expected = ["Correct"] * len(right) + ["Incorrect"] * len(wrong)
        return sum(a == b for a, b in zip(verdicts, expected, strict=True)) / len(expected)


def judged_fields(
    judge: Judge,
    questions: Sequence[Question],
    replies: Sequence[Sequence[str]],
    seed: int,
    tick: Callable[[int, int, str], None],
) -> list[dict[str, Any]]:
    """The fields of a judged table: each row's share of correct replies, and whether the judge may be believed.

    Args:
        judge: Judges, and is judged first, on the same questions' keys.
        questions: What was asked.
        replies: Each row's answers in words; the first row's are what the others are tested against.
        seed: Of the bootstrap.
        tick: Called with verdicts there, verdicts in all, and a word.
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
            "judged_change_ci95": list(paired_bootstrap(rights[-1], rights[0], every, seed)),
            "judged_cant_tell": verdicts.count("Can't tell") / len(cases), "judge": judge.name,
            "judge_accuracy": accuracy, "judge_usable": accuracy >= USABLE,
        })  # fmt: skip
    return fields


def understood(said: str) -> Verdict:
    """The verdict in a judge's first line; any other than one of the three, alone, counts as "Can't tell"."""
    found = _VERDICT.fullmatch(said.strip().partition("\n")[0])
    if found is None:
        return "Can't tell"
    return "Correct" if found[1].lower() == "correct" else "Incorrect"


def _prompt(question: Question, answer: str) -> str:
    correct = question.options[question.answer]
    return _PROMPT.format(question=question.text, correct_answer=correct, answer=answer)


def _request(prompt: str) -> Request:
    return Request([Message(role="user", content=prompt)], max_tokens=_MAX_TOKENS)
