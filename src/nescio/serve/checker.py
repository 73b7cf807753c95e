"""What an audit does with a text that a detector has read: the same for running text and for JSON."""

import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from nescio.pii.base import Detector, Span, merge
from nescio.pii.stand_ins import StandIns
from nescio.pii.taxonomy import PiiType
from nescio.serve.audit import ACTIONS, Action, Audit

Judged = tuple[Span, Action]

_SAYS = re.compile(r"\w")


class Maker(Protocol):
    """Makes stand-ins."""

    def of(self, kind: PiiType, piece: str) -> str:
        """Return the stand-in of a piece."""


class FilterError(Exception):
    """The detector failed; unchecked text must not be sent."""


@dataclass(frozen=True, slots=True)
class Treated(Span):
    """A piece of personal data, or what replaced it, in text that may be sent, and what the audit did with it."""

    action: Action = "count"


@dataclass(frozen=True, slots=True)
class Checked:
    """Text that may be sent, with its personal data or what replaced it, in characters of everything sent so far."""

    text: str
    spans: tuple[Treated, ...] = ()


class Checker:
    """Detector, audit and stand-ins of one answer.

    Args:
        detector: Finds personal data.
        audit: What is done with it.
        on_check: Called with the seconds of each check.
        stand_ins: What `replace` puts in the place of personal data; None: made for this answer.
        own: Stand-ins of the caller's request. What consists of them is let through.

    Attributes:
        withheld: Personal data of the text that `block` stopped, up to the piece that it names.
        hides: Whether the audit keeps some personal data from the caller.
    """

    def __init__(
        self,
        detector: Detector,
        audit: Audit,
        on_check: Callable[[float], None] = lambda seconds: None,
        *,
        stand_ins: Maker | None = None,
        own: Collection[str] = (),
    ) -> None:
        self.withheld: list[Span] = []
        self.hides = audit.hides
        self._read: dict[str, list[Span]] = {}
        self._detector = detector
        self._audit = audit
        self._on_check = on_check
        self._own = re.compile("|".join(map(re.escape, sorted(own, key=len, reverse=True))) or r"(?!)")
        # With a key of this answer, which nobody can try out.
        self._stand_ins = stand_ins or StandIns(secrets.token_bytes(32))

    def read(self, texts: Sequence[str]) -> None:
        """Let the detector read several texts in one call; `find` knows then what it found.

        Raises:
            FilterError: The detector failed.
        """
        self._read.update(zip(texts, self._found(texts), strict=True))

    def find(self, text: str, asked: str = "") -> list[Judged]:
        """Return the personal data in a text that the audit does not simply let through, in order.

        Args:
            text: The text.
            asked: What the text follows. The caller wrote it, so it adds to what is found and takes nothing away.

        Raises:
            FilterError: The detector failed.
        """
        texts = [text, asked + text] if asked else [text]
        found, *more = [self._read[text]] if text in self._read else self._found(texts)
        placed = (
            replace(span, start=span.start - len(asked), end=span.end - len(asked)) for each in more for span in each
        )
        found = sorted([*found, *(span for span in placed if span.end > 0)], key=lambda span: (span.start, -span.end))
        judged = [(span, self._audit.action(span)) for span in found if _SAYS.search(self._own.sub("", span.text))]
        return [(span, action) for span, action in judged if action != "allow"]

    def _found(self, texts: Sequence[str]) -> list[list[Span]]:
        start = time.perf_counter()
        try:
            return self._detector.find(texts)
        except Exception as error:  # a detector may raise anything; nothing was checked then
            raise FilterError("the detector failed") from error
        finally:
            self._on_check(time.perf_counter() - start)

    def changed(self, text: str, judged: Sequence[Judged]) -> tuple[str, list[Treated], bool]:
        """Return a text as it may be sent, where its personal data is in it then, and whether it must not be sent."""
        parts, marks, position, length = list[str](), list[Treated](), 0, 0
        merged = merge((span for span, _ in judged), text)
        for span, near in zip(merged, overlapping([(span.start, span.end) for span in merged], judged), strict=True):
            # overlapping spans are treated as the strictest is
            action: Action = max((action for _, action in near), key=ACTIONS.index, default="mask")
            if action == "block":
                self.withheld += [*marks, span]
                return "", [], True
            piece = text[span.start : span.end]
            shown = piece
            if action != "count":
                shown = f"[{span.label}]" if action == "mask" else self._stand_ins.of(span.type, piece)
            before = text[position : span.start]
            start = length + len(before)
            length = start + len(shown)
            parts += [before, shown]
            marks.append(Treated(start, length, span.label, shown, span.type, action))
            position = span.end
        return "".join([*parts, text[position:]]), marks, False


def overlapping(places: Iterable[tuple[int, int]], judged: Iterable[Judged]) -> Iterator[list[Judged]]:
    """Yield for each place the personal data that shares characters with it; the places are in order and apart."""
    ahead, near = deque(sorted(judged, key=lambda each: each[0].start)), list[Judged]()
    for start, end in places:
        while ahead and ahead[0][0].start < end:
            near.append(ahead.popleft())
        near = [each for each in near if each[0].end > start]
        yield near.copy()


def moved(judged: Judged, by: int) -> Judged:
    """Return a piece of personal data at another place."""
    span, action = judged
    return replace(span, start=span.start + by, end=span.end + by), action
