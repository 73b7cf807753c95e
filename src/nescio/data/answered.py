"""Prompts with the answer that a model gave to each: anchors, and a teacher's trajectories."""

from dataclasses import dataclass
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.core.prompts import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A prompt and an answer to it.

    Attributes:
        id: Its name.
        messages: The conversation, without any sentence of ours.
        answer: The answer, with the token that ends it unless it was cut.
    """

    id: str
    messages: list[Message]
    answer: str


def read_answered(path: Path, what: str) -> list[Answered]:
    """Read a file of answered prompts.

    Args:
        path: JSON lines.
        what: What each line is, for errors: `an anchor`.

    Raises:
        NescioError: A line is something else.
    """
    made = []
    for number, row in read_jsonl(path):
        try:
            made.append(Answered(**row))
        except TypeError as error:
            raise NescioError(f"{path}:{number}: not {what} ({error}); delete the file and run again") from error
    return made
