"""How much a detector sees: recall and precision by type, on texts whose personal data is known."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field
from itertools import islice
from typing import Any

from nescio.core.wilson import wilson
from nescio.pii.base import Detector, Span
from nescio.pii.labelled import Labelled

SEEN = 0.9
"""A piece is seen where at least this share of its characters is covered, by spans of whatever type."""

RIGHT = 0.5
"""A span is right where its intersection with a piece is at least this share of their union (IoU)."""

_BATCH = 256
_AROUND = 40  # characters of context on each side of what was missed


@dataclass(slots=True)
class Tally:
    """What was counted of one type: pieces by their own type, what was found by the detector's.

    Attributes:
        pieces: Labelled pieces.
        seen: Those that were seen.
        found: Spans that the detector found.
        right: Those that are right.
        characters: Characters in the spans found.
        right_characters: Those inside of labelled pieces, of whatever type.
    """

    pieces: int = 0
    seen: int = 0
    found: int = 0
    right: int = 0
    characters: int = 0
    right_characters: int = 0

    def as_row(self) -> dict[str, Any]:
        """Return the counts, and the shares with their 95 % intervals (Wilson); None where there is nothing to share.

        The interval of `precision`, which counts characters, has spans as its trials: the characters of one span are
        right or wrong together.
        """
        right = self.right_characters / self.characters if self.characters else 0.0
        shares = {
            "recall": (self.seen, self.pieces),
            "precision": (right * self.found, self.found),
            "span_precision": (self.right, self.found),
        }
        row: dict[str, Any] = asdict(self)
        for name, (successes, trials) in shares.items():
            row[name] = successes / trials if trials else None
            row[f"{name}_ci95"] = list(wilson(successes, trials)) if trials else None
        return row


@dataclass(frozen=True, slots=True)
class Example:
    """Something to read: a piece that was missed, or a false alarm, of which less than half is in a piece.

    Attributes:
        type: Its type, or its label where that is of no type.
        text: The piece.
        context: The piece, in double brackets, among the characters around it.
        place: Where its text stands.
    """

    type: str
    text: str
    context: str
    place: str


@dataclass(slots=True)
class Check:
    """What became of a check.

    Attributes:
        detector: Its name.
        counted: Types that the detector looks for; None: all.
        labels: Labels that it looks for besides, of whatever type.
        texts: How many texts were looked at.
        types: Counts by type.
        not_looked_for: Labelled pieces of other types; they are in no share.
        missed: Pieces that were not seen.
        false_alarms: Spans found of which less than half lies in labelled pieces.
    """

    detector: str
    counted: Collection[str] | None = None
    labels: Collection[str] = ()
    texts: int = 0
    types: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    not_looked_for: Counter[str] = field(default_factory=Counter)
    missed: list[Example] = field(default_factory=list)
    false_alarms: list[Example] = field(default_factory=list)

    @property
    def all(self) -> Tally:
        """The counts of all types together."""
        counts = [astuple(tally) for tally in self.types.values()]
        return Tally(*map(sum, zip(*counts, strict=True)))

    def as_row(self) -> dict[str, Any]:
        """Return everything as plain data; the type with the most pieces comes first."""
        types = sorted(self.types.items(), key=lambda item: (-item[1].pieces, -item[1].found))
        return {
            "detector": self.detector, "texts": self.texts, "all": self.all.as_row(),
            "types": {name: tally.as_row() for name, tally in types},
            "not_looked_for": dict(self.not_looked_for.most_common()),
            "missed": [asdict(example) for example in self.missed],
            "false_alarms": [asdict(example) for example in self.false_alarms],
        }  # fmt: skip


def check(
    labelled: Iterable[Labelled], detector: Detector, counted: Collection[str] | None = None,
    labels: Collection[str] = (),
) -> Check:  # fmt: skip
    """Compare what a detector finds with what is there.

    Args:
        labelled: Texts with their pieces.
        detector: Asked about some hundred texts at a time.
        counted: Types that it looks for; None: all. Not finding others is no miss.
        labels: Labels that it looks for besides: those of the user's own patterns.
    """
    done = Check(detector.name, counted, labels)
    rest = iter(labelled)
    while batch := list(islice(rest, _BATCH)):
        for one, found in zip(batch, detector.find([one.text for one in batch]), strict=True):
            done.texts += 1
            _compare(one, found, done)
    return done


def _compare(one: Labelled, found: Sequence[Span], done: Check) -> None:
    covered, labelled = _characters(one.text, found), _characters(one.text, one.spans)
    for piece in one.spans:
        if done.counted is not None and piece.type not in done.counted and piece.label not in done.labels:
            done.not_looked_for[kind(piece)] += 1
            continue
        is_seen = sum(covered[piece.start : piece.end]) >= SEEN * (piece.end - piece.start) - 1e-9
        tally = done.types[kind(piece)]
        tally.pieces, tally.seen = tally.pieces + 1, tally.seen + is_seen
        if not is_seen:
            done.missed.append(_example(one, piece))
    for span in found:
        length, inside = span.end - span.start, sum(labelled[span.start : span.end])
        tally = done.types[kind(span)]
        tally.found += 1
        tally.right += any(_iou(span, piece) >= RIGHT for piece in one.spans)
        tally.characters, tally.right_characters = tally.characters + length, tally.right_characters + inside
        if 2 * inside < length:
            done.false_alarms.append(_example(one, span))


def kind(span: Span) -> str:
    """Return a span's type, or its label where the taxonomy has no type for it."""
    return span.label.lower() if span.type == "other" else span.type


def _characters(text: str, spans: Iterable[Span]) -> bytearray:
    """A 1 for each character of the text that is in a span."""
    inside = bytearray(len(text))
    for span in spans:
        inside[span.start : span.end] = b"\1" * (span.end - span.start)
    return inside


def _iou(one: Span, other: Span) -> float:
    shared = min(one.end, other.end) - max(one.start, other.start)
    return max(shared, 0) / (max(one.end, other.end) - min(one.start, other.start))


def _example(one: Labelled, span: Span) -> Example:
    before = one.text[max(0, span.start - _AROUND) : span.start]
    after = one.text[span.end : span.end + _AROUND]
    context = " ".join(f"{before}[[{span.text}]]{after}".split())
    return Example(kind(span), span.text, context, one.place)


def few_of_each(examples: Iterable[Example], count: int) -> Iterator[Example]:
    """Yield the first examples of each type, of different texts each."""
    shown: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        of_type = shown[example.type]
        if len(of_type) < count and example.text not in of_type:
            of_type.add(example.text)
            yield example
