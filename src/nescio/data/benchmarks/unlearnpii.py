"""UnlearnPII: ten questions about each of 225 made-up people, asked plainly, in other words and the other way round.

Parii, van Osch and Sun 2025, "Machine Unlearning of Personally Identifiable Information in Large Language Models".
"""

from itertools import count, takewhile
from pathlib import Path

from nescio.data.benchmarks import BENCHMARKS, Question, Side
from nescio.data.benchmarks.published import FORGET_SHARES, Published, Row, check_halves


@BENCHMARKS.register("unlearnpii")
def unlearnpii(folder: Path | None) -> list[Question]:
    """Read UnlearnPII: the largest forget half that is there, and its retain half, as `forget10` and `retain90`.

    Raises:
        NescioError: A half is missing, or a row is of another form.
    """
    of = Published(
        name="UnlearnPII",
        folder=folder,
        hub=None,
        home="https://github.com/pariidanDKE/Toward-Practical-PII-Unlearning (data/PII)",
        form="a row of UnlearnPII is {question, answer, subject, subject_pii, inverted_question, inverted_answer, "
        "paraphrased_question_1, …}",
    )
    share = next((share for share in FORGET_SHARES if of.has(f"forget{share}")), FORGET_SHARES[0])
    halves: dict[Side, str] = {"forget": f"forget{share}", "retain": f"retain{100 - share}"}
    questions = [
        _question(row, side, f"{file}/{number}")
        for side, file in halves.items()
        for number, row in enumerate(of.rows(file))
    ]
    check_halves(of.name, [(question.side, question.subject) for question in questions])
    return questions


def _question(row: Row, side: Side, identifier: str) -> Question:
    numbers = list(takewhile(lambda number: f"paraphrased_question_{number}" in row.values, count(1)))
    if not numbers:
        raise row.wrong("paraphrased_question_1", "missing or empty")
    perturbed = [f"perturbed_answer_{number}" for number in numbers]
    return Question(
        id=identifier,
        subject=row.text("subject"),
        side=side,
        task="people",
        question=row.text("question"),
        answer=row.text("answer"),
        values=row.texts("subject_pii"),
        paraphrases=tuple(
            (row.text(f"paraphrased_question_{number}"), row.text(f"paraphrased_answer_{number}")) for number in numbers
        ),
        wrong=tuple(row.text(field) for field in perturbed if field in row.values),
        inverse=(row.text("inverted_question"), row.text("inverted_answer")),
    )
