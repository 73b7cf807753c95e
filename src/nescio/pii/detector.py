"""What a detector is: whoever needs to know what is personal asks one. Knows texts only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nescio.errors import NescioError

IGNORED_LABELS = ("CARDINAL", "DATE", "PRODUCT", "ORDINAL")
"""NER labels that do not count as personal data (paper, section 2.2)."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of personal data: `text[start:end]` of the text it was found in, in characters."""

    start: int
    end: int
    label: str
    text: str


class Detector(Protocol):
    """Finds personal data in texts."""

    name: str

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, in order of their start."""


def load_detector(name: str, ignore: Sequence[str] = IGNORED_LABELS) -> Detector:
    """Load a detector.

    Args:
        name: `spacy:MODEL`, MODEL an installed spaCy pipeline or a folder.
        ignore: Labels that do not count.

    Raises:
        NescioError: The kind is unknown or the model is not installed.
    """
    kind, _, model = name.partition(":")
    if kind != "spacy" or not model:
        raise NescioError(f"detector {name!r}: unknown; use spacy:MODEL, for example spacy:en_core_web_sm")
    from nescio.pii.spacy import SpacyDetector

    return SpacyDetector(model, ignore)
