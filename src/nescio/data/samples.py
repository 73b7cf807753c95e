"""Samples: one for every piece of personal data in an assistant turn (paper, section 2.2).

The prompt ends before the piece, inside the assistant's answer if it stands there; the rejected text starts with it.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from nescio.core.errors import NescioError
from nescio.core.files import parse_line, read_jsonl, write_jsonl
from nescio.core.prompts import Message, beginning_of
from nescio.core.text import said_places
from nescio.data.dialogs import Dialog
from nescio.pii.base import Detector, Span, merge

_CHUNK = 256

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Sample:
    """A place where the assistant is about to say something personal.

    Attributes:
        id: `dialog:message:character`, the same in every run.
        dialog_id: The dialog it comes from.
        messages: The conversation up to the place; a last assistant message is the answer's beginning.
        rejected: The rest of the answer, from the piece of personal data on, with the white space before it.
        label: What kind of personal data it is.
        value: The piece itself.
    """

    id: str
    dialog_id: str
    messages: list[Message]
    rejected: str
    label: str
    value: str

    @property
    def beginning(self) -> str:
        """The answer up to the place; empty where the answer starts with it."""
        return beginning_of(self.messages)

    @property
    def answer(self) -> tuple[str, int]:
        """The answer that it was cut from: the dialog, and how many messages stand before it."""
        return self.dialog_id, len(self.whole().messages)

    def whole(self) -> "Sample":
        """Return the sample with the whole answer rejected, and no part of it in the messages."""
        if not self.beginning:
            return self
        return replace(self, messages=self.messages[:-1], rejected=self.beginning + self.rejected)

    def as_row(self) -> dict[str, Any]:
        """Return the line of a sample file."""
        return asdict(self)


def samples_of(dialogs: Iterable[Dialog], detector: Detector) -> Iterator[Sample]:
    """Yield the samples of dialogs in order, by recorded slots or else by the detector; some dialogs at a time."""
    rest = iter(dialogs)
    while chunk := list(islice(rest, _CHUNK)):
        turns = [(dialog, index) for dialog in chunk for index in dialog.answers]
        unrecorded = [turn for turn in turns if not turn[0].pii]  # {} names no slot: nobody has looked yet
        found = iter(detector.find([dialog.messages[index]["content"] for dialog, index in unrecorded]))
        for dialog, index in turns:
            content = dialog.messages[index]["content"]
            spans = slot_spans(content, dialog.recorded_labels) if dialog.pii else next(found)
            for span in merge(spans, content, across_spaces=True):
                yield _sample(dialog, index, span)


def slot_spans(text: str, pieces: Mapping[str, str]) -> list[Span]:
    """Find known pieces of personal data in a text: whole words, in any Unicode form and spacing, as `said_places`.

    Args:
        text: Where to look.
        pieces: Value and label of each piece.
    """
    return [
        Span(start, end, label, text[start:end])
        for value, label in pieces.items()
        for start, end in said_places(text, value)
    ]


def _sample(dialog: Dialog, index: int, span: Span) -> Sample:
    content = dialog.messages[index]["content"]
    given = content[: span.start].rstrip()  # white space before the piece belongs to the answer
    messages = list(dialog.messages[:index])
    if given:
        messages.append(Message(role="assistant", content=given))
    return Sample(
        id=f"{dialog.id}:{index}:{span.start}",
        dialog_id=dialog.id,
        messages=messages,
        rejected=content[len(given) :] if given else content[span.start :],
        label=span.label,
        value=span.text,
    )


def subsample(samples: Sequence[Sample], count: int | None, seed: int) -> list[Sample]:
    """Draw at most `count` samples, one from every dialog before a second one from any."""
    return spread(samples, lambda sample: sample.dialog_id, count, random.Random(seed))


def spread(items: Sequence[Item], group: Callable[[Item], str], count: int | None, rng: random.Random) -> list[Item]:
    """Draw at most `count` items, one of every group before a second one of any, and return them in their order."""
    if count is None or count >= len(items):
        return list(items)
    by_group: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        by_group.setdefault(group(item), []).append(number)
    for own in by_group.values():
        rng.shuffle(own)
    groups = list(by_group)
    rng.shuffle(groups)
    rounds = max(len(own) for own in by_group.values())
    drawn = [by_group[name][turn] for turn in range(rounds) for name in groups if turn < len(by_group[name])]
    return [items[number] for number in sorted(drawn[:count])]


def write_samples(
    dialogs: Iterable[Dialog], detector: Detector, path: Path, limit: int | None = None, seed: int = 0
) -> tuple[int, int]:
    """Write the samples of dialogs, at most `limit` of them; without a limit, some dialogs are in memory at a time.

    Returns:
        The number of samples written, and of samples found.
    """
    every = path.with_suffix(".every")
    kept = found = write_jsonl(every, (sample.as_row() for sample in samples_of(dialogs, detector)))
    if limit is None or limit >= found:
        every.replace(path)
    else:
        kept = write_jsonl(path, (sample.as_row() for sample in subsample(list(read_samples(every)), limit, seed)))
        every.unlink()
    return kept, found


class SampleFile:
    """Samples of a file by id, read on demand; only their offsets are held in memory.

    Args:
        path: A sample file.

    Raises:
        NescioError: It cannot be read, or a line is not a sample.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise NescioError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        self._places: dict[str, int] = {}
        place = 0
        for number, line in enumerate(self._file, start=1):
            if line.strip():
                self._places[_sample_at(path, number, parse_line(path, number, line)).id] = place
            place += len(line)

    def get(self, identifier: str) -> Sample | None:
        """Return a sample, or None where the file does not hold it."""
        place = self._places.get(identifier)
        if place is None:
            return None
        self._file.seek(place)
        return Sample(**json.loads(self._file.readline()))


def read_samples(path: Path) -> Iterator[Sample]:
    """Read a sample file back.

    Raises:
        NescioError: A line is not a sample.
    """
    return (_sample_at(path, number, row) for number, row in read_jsonl(path))


def _sample_at(path: Path, number: int, row: Any) -> Sample:
    try:
        return Sample(**row)
    except TypeError as error:
        raise NescioError(f"{path}:{number}: not a sample; `nescio data samples` makes them of dialogs") from error
