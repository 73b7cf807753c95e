"""LUME: three tasks of made-up stories, made-up people and real biographies, each as completions and questions.

Ramakrishna et al. 2025, "LUME: LLM Unlearning with Multitask Evaluations" (2502.15097); SemEval-2025 Task 4
has its form.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nescio.data.benchmarks import BENCHMARKS, Question, Side
from nescio.data.benchmarks.published import Published, Row, check_halves

_ID = re.compile(r'"?(?P<document>.+?)"?(?P<kind>sc|qa)\d+')
_PERSONAL = "Task2"  # made-up people; an answer there is a value


@BENCHMARKS.register("lume")
def lume(folder: Path | None) -> list[Question]:
    """Read LUME: `forget.jsonl` and `retain.jsonl`, or SemEval's training splits on the hub.

    Raises:
        NescioError: A half is missing, or a row is of another form.
    """
    of = Published(
        name="LUME",
        folder=folder,
        hub="llmunlearningsemeval2025organization/semeval25-unlearning-dataset-public",
        home="https://github.com/amazon-science/lume-llm-unlearning (data/)",
        form="a row of LUME is {id, input, output, task}",
    )
    sides: tuple[Side, ...] = ("forget", "retain")
    questions, seen = list[Question](), dict[str, str]()
    for side in sides:
        for row in of.rows(side, split=f"{side}_train"):
            questions.append(_question(row, side))
            # Answers are kept by id: of two with the same one, the last would count for both.
            if (before := seen.setdefault(questions[-1].id, row.place)) != row.place:
                raise row.wrong("id", f"{row.text('id')!r} stands at {before} already, keep one")
    check_halves(of.name, [(question.side, question.subject) for question in questions])
    return _with_values(questions)


def _question(row: Row, side: Side) -> Question:
    identifier, task = row.text("id"), row.text("task")
    if (match := _ID.fullmatch(identifier)) is None:
        raise row.wrong("id", f"{identifier!r} is not a document's name with sc1 or qa0 behind it")
    is_completion, answer = match["kind"] == "sc", row.text("output")
    is_value = task == _PERSONAL and not is_completion
    if is_value and not any(map(str.isalnum, answer)):
        raise row.wrong("output", f"{answer!r} has no letter or digit, so no answer could say it")
    return Question(
        id=f"{side}/{identifier}",
        subject=match["document"],
        side=side,
        task=task,
        question=row.text("input"),
        answer=answer,
        is_completion=is_completion,
        values=(answer.rstrip("."),) if is_value else (),
    )


def _with_values(questions: Sequence[Question]) -> list[Question]:
    """Give each completion the values of its person that its answer says, and as it writes them."""
    recorded: dict[str, list[str]] = {}
    for question in questions:
        recorded.setdefault(question.subject, []).extend(question.values)
    return [
        replace(question, values=_values_in(question.answer, recorded[question.subject]))
        if question.is_completion
        else question
        for question in questions
    ]


def _values_in(text: str, values: Sequence[str]) -> tuple[str, ...]:
    found = [(value, _as_written(text, value)) for value in values]
    return tuple(dict.fromkeys(form for value, written in found if written is not None for form in (value, written)))


def _as_written(text: str, value: str) -> str | None:
    """Return how a text writes a value, whatever marks it puts between letters and digits: 900-51-4344."""
    pattern = r"[\W_]{0,3}".join(filter(str.isalnum, value))
    found = re.search(pattern, text, re.IGNORECASE)
    return found[0] if found else None
