"""TOFU: twenty questions about each of 200 made-up authors; some of the authors are to be forgotten.

Maini et al. 2024, "TOFU: A Task of Fictitious Unlearning for LLMs" (2401.06121). Its rows have no ids: they
stand in the order of the authors.
"""

from collections.abc import Iterator
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.data.benchmarks import BENCHMARKS, Question, Side
from nescio.data.benchmarks.published import FORGET_SHARES, Published, Row, check_halves

_OF_AN_AUTHOR = 20


@BENCHMARKS.register("tofu")
def tofu(folder: Path | None) -> list[Question]:
    """Read TOFU: the largest forget half that is there, its retain half, and their perturbed answers.

    Files are `forget10` and `retain90`, `forget10_perturbed`, `retain_perturbed`, and, where they are,
    `holdout10`, `real_authors_perturbed` and `world_facts_perturbed`.

    Raises:
        NescioError: A half or its perturbed answers are missing, or a row is of another form.
    """
    of = Published(
        name="TOFU",
        folder=folder,
        hub="locuslab/TOFU",
        home="https://huggingface.co/datasets/locuslab/TOFU",
        form="a row of TOFU is {question, answer}, with paraphrased_answer and perturbed_answer in the perturbed files",
    )
    share = next((share for share in FORGET_SHARES if of.has(f"forget{share:02}")), FORGET_SHARES[0])
    forget, retain, holdout = f"forget{share:02}", f"retain{100 - share}", f"holdout{share:02}"
    perturbed = {
        **_by_question(of, f"{forget}_perturbed"),
        **_by_question(of, "retain_perturbed"),
    }
    questions = [*_half(of, forget, "forget", perturbed), *_half(of, retain, "retain", perturbed)]
    if folder is not None and of.has(holdout):
        questions += _half(of, holdout, "outside", perturbed)
    for name in ("real_authors", "world_facts"):
        if of.has(f"{name}_perturbed"):
            questions += _general(of, name)
    _check(of, questions)
    return questions


def _half(of: Published, file: str, side: Side, perturbed: dict[str, Row]) -> Iterator[Question]:
    for number, row in enumerate(of.rows(file, config=file)):
        asked = row.text("question")
        more = perturbed.get(asked)
        paraphrased = () if more is None else ((_paraphrased_question(more, asked), more.text("paraphrased_answer")),)
        yield Question(
            id=f"{file}/{number}",
            subject=f"{file}/{number // _OF_AN_AUTHOR}",
            side=side,
            task="authors",
            question=asked,
            answer=row.text("answer"),
            paraphrases=paraphrased,
            wrong=() if more is None else more.texts("perturbed_answer"),
        )


def _paraphrased_question(row: Row, asked: str) -> str:
    return row.text("paraphrased_question") if "paraphrased_question" in row.values else asked


def _by_question(of: Published, file: str) -> dict[str, Row]:
    return {row.text("question"): row for row in of.rows(file, config=file)}


def _general(of: Published, name: str) -> Iterator[Question]:
    file = f"{name}_perturbed"
    for number, row in enumerate(of.rows(file, config=file)):
        yield Question(
            id=f"{file}/{number}",
            subject=f"{file}/{number}",
            side="general",
            task=name,
            question=row.text("question"),
            answer=row.text("answer"),
            wrong=row.texts("perturbed_answer"),
        )


def _check(of: Published, questions: list[Question]) -> None:
    forgotten = {each.question for each in questions if each.side == "forget"}
    check_halves(of.name, [(each.side, each.question) for each in questions])
    if not any(each.wrong for each in questions if each.question in forgotten):
        raise NescioError(
            f"{of.folder or of.hub}: the perturbed answers are to none of the forget half's questions; "
            "take both files from one version"
        )
