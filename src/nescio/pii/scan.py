"""Looking for personal data in many texts: what is found in each, and how much in all."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nescio.pii.base import Detector, Span

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Text:
    """A text and where it stands.

    Attributes:
        place: For people: a file, a line, a message.
        text: The text.
        line: Line of `place` on which a plain text begins; None where all of it stands at `place`.
    """

    place: str
    text: str
    line: int | None = None

    def at(self, offset: int) -> str:
        """Return the place of a character."""
        return self.place if self.line is None else f"{self.place}:{self.line + self.text.count(chr(10), 0, offset)}"


Found = tuple[Text, list[Span]]
"""A text and what was found in it."""


def scan(texts: Iterable[Text], detector: Detector) -> Iterator[Found]:
    """Yield each text with its spans; some hundred texts are in memory at a time."""
    rest = iter(texts)
    while batch := list(islice(rest, _BATCH)):
        yield from zip(batch, detector.find([one.text for one in batch]), strict=True)


def counts(found: Iterable[Found]) -> dict[str, Any]:
    """Return `{"total": n, "labels": {label: n}}`, the commonest label first."""
    labels = Counter(span.label for _, spans in found for span in spans)
    return {"total": labels.total(), "labels": dict(labels.most_common())}
