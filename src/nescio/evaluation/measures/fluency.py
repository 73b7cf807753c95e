"""Fluency: the artefacts of the paper's section 5, counted. They compare guidance in log and in probability space."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nescio.core.text import count_words, sentence_starts
from nescio.evaluation.base import Found, Measure, Task
from nescio.evaluation.columns import Column, measures

_CONFUSED = (
    # The model takes the user for itself, as in the paper's "you're an interface to provide language understanding".
    r"\byou(?:'re|’re| are) (?:an?|the) (?:\w+[ -]){0,2}(?:ai|assistant|chatbot|bot|interface|language model)\b",
    r"\byou (?:don't|don’t|do not) have (?:a |any )?personal (?:name|data|information)\b",
    r"\byour (?:developers|training data)\b",
    # The model takes itself for the user, or goes on with the user's turn.
    r"\bi(?:'m|’m| am) (?:the|a) (?:user|customer|human user)\b",
    r"^\s*(?:user|human|assistant|system)\s*:",
    r"<\|(?:im_start|im_end|start_header_id|eot_id)\|>",
)
_CONFUSION = re.compile("|".join(_CONFUSED), re.IGNORECASE | re.MULTILINE)


@measures.register("fluency")
class FluencyMeasure(Measure):
    """Artefacts of the answers to the samples."""

    columns = (
        Column(
            key="lower_case", header="lower case", place="detail",
            meaning="share of the sentences that start in lower case",
        ),
        Column(
            key="role_confusion", header="role confusion", place="detail",
            meaning="share of the answers in which user and assistant change places",
        ),
        Column(
            key="repetition", header="repetition", place="detail",
            meaning="share of the four-word sequences that occur earlier in the same answer",
        ),
        Column(
            key="answer_words", header="words an answer", kind="number", place="detail",
            meaning="mean length of an answer in words",
        ),
    )  # fmt: skip

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Count the artefacts of each row."""
        continues = [sample.messages[-1]["role"] == "assistant" for sample in task.samples]
        return [asdict(fluency(one.answers, continues)) for one in found]


@dataclass(frozen=True, slots=True)
class Fluency:
    """What is counted in a row's answers.

    Attributes:
        lower_case: Share of the sentences that start with a lower-case letter; None where there is no sentence.
        role_confusion: Share of the answers in which the model takes itself for the user, or the user for the model.
        repetition: Share of the four-word sequences that occur earlier in the same answer (Welleck et al. 2020);
            None where no answer has four words.
        answer_words: Mean length of an answer, in words.
    """

    lower_case: float | None
    role_confusion: float | None
    repetition: float | None
    answer_words: float


def fluency(answers: Sequence[str], continues: Sequence[bool]) -> Fluency:
    """Count the artefacts of a row's answers.

    Args:
        answers: Texts.
        continues: Whether each continues a sentence of its prompt, and so may start in lower case.
    """
    starts = [
        letter for text, goes_on in zip(answers, continues, strict=True) for letter in sentence_starts(text)[goes_on:]
    ]
    return Fluency(
        lower_case=_share([letter.islower() for letter in starts]),
        role_confusion=_share([bool(_CONFUSION.search(text)) for text in answers]),
        repetition=_share([again for text in answers for again in _repeated(text)]),
        answer_words=sum(map(count_words, answers)) / max(len(answers), 1),
    )


def _repeated(text: str) -> list[bool]:
    words = text.lower().split()
    grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    seen: set[tuple[str, ...]] = set()
    repeated = []
    for gram in grams:
        repeated.append(gram in seen)
        seen.add(gram)
    return repeated


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
