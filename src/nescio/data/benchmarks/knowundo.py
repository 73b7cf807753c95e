"""KnowUnDo, privacy: what is private of made-up people is to be forgotten, what is public of them is to be kept.

Tian et al. 2024, "To Forget or Not? Towards Practical Knowledge Unlearning for Large Language Models" (2407.01920).
"""

from collections.abc import Iterator
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.data.benchmarks import BENCHMARKS, Question, Side
from nescio.data.benchmarks.published import Published, Row, check_halves

_PARTS = ("train", "val")  # its authors tune the model on both


@BENCHMARKS.register("knowundo")
def knowundo(folder: Path | None) -> list[Question]:
    """Read KnowUnDo's privacy set: `unlearn.json` and `retention.json`, each `{train: [...], val: [...]}`.

    In a folder that holds `privacy/` the files there are read.

    Raises:
        NescioError: A half is missing, or a row is of another form.
    """
    inner = folder / "privacy" if folder is not None else None
    of = Published(
        name="KnowUnDo",
        folder=inner if inner is not None and inner.is_dir() else folder,
        hub="zjunlp/KnowUnDo",
        home="https://huggingface.co/datasets/zjunlp/KnowUnDo (privacy/)",
        form="KnowUnDo is {train, val}, lists of {text, labels}",
    )
    sides: dict[Side, str] = {"forget": "unlearn", "retain": "retention"}
    questions = [question for side, file in sides.items() for question in _half(of, file, side)]
    check_halves(of.name, [(question.side, question.question) for question in questions])
    return questions


def _half(of: Published, file: str, side: Side) -> Iterator[Question]:
    (whole, *others) = of.rows(file, config="privacy", split=file)
    if others or not all(isinstance(whole.values.get(part), list) for part in _PARTS):
        raise NescioError(f"{whole.place}: {' or '.join(_PARTS)}: missing or no list; {of.form}")
    for part in _PARTS:
        for number, values in enumerate(whole.values[part], start=1):
            row = Row(f"{whole.place}: {part}[{number}]", values if isinstance(values, dict) else {}, of.form)
            identifier = f"{file}/{part}/{number}"
            # No person is named beside a row, so each stands for itself.
            yield Question(
                id=identifier,
                subject=identifier,
                side=side,
                task=part,
                question=row.text("text"),
                answer=row.text("labels"),
            )
