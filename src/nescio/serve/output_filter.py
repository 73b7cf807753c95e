"""The output audit: no text is sent before a detector has read it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from nescio.core.text import sure_sentence_end
from nescio.pii.base import Detector, Span, mask_with_places
from nescio.serve.policy import AuditMode

_LONGEST = 400  # characters that are held back at most without a sentence end, before they are cut at a word
_CONTEXT = 200  # characters of what was sent that the detector sees again, for names that a cut runs through


class AuditError(Exception):
    """The detector failed, so what was not yet checked must not be sent."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Text that may be sent, and where personal data is (or was masked) in it, in characters of all that was sent."""

    text: str
    spans: tuple[Span, ...] = ()


class Audit:
    """The audit of one answer.

    What is sent does not depend on how the answer was cut into chunks: text is checked one sentence at a time, each
    with the end of the one before, so that a name across a border is seen whole.

    Args:
        detector: Says what is personal.
        mode: `count` sends everything, `mask` puts `[LABEL]` for personal data, `block` ends before the sentence
            that has the first.
        on_check: Told the seconds of each check.
    """

    def __init__(
        self, detector: Detector, mode: AuditMode, on_check: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self.blocked = False
        self._detector = detector
        self._mode = mode
        self._on_check = on_check
        self._pending = ""
        self._before = ""  # the end of what was sent, as the model wrote it
        self._sent = 0

    def feed(self, text: str) -> list[Checked]:
        """Take more of the answer, and give what may be sent by now.

        Raises:
            AuditError: The detector failed.
        """
        self._pending += text
        checked = []
        while not self.blocked and (place := self._cut()):
            checked += self._check(*place)
        return checked

    def finish(self) -> list[Checked]:
        """The answer has ended: give the rest of what may be sent.

        Raises:
            AuditError: The detector failed.
        """
        return [] if self.blocked or not self._pending else self._check(len(self._pending), len(self._pending))

    def _cut(self) -> tuple[int, int] | None:
        """Up to where the pending text may be sent, and up to where the detector has to see it; None: not yet."""
        if end := sure_sentence_end(self._pending, _LONGEST):
            return end, end
        if len(self._pending) < _LONGEST:
            return None
        # The second half is looked at again with what follows it: so a name across this cut is seen whole, twice.
        return self._pending.rfind(" ", _LONGEST // 4, _LONGEST // 2) + 1 or _LONGEST // 2, _LONGEST

    def _check(self, cut: int, seen: int) -> list[Checked]:
        offset = len(self._before)
        found = [_moved(span, -offset) for span in self._find(self._before + self._pending[:seen])]
        spans = [span for span in found if span.end > 0 and span.start < cut]
        if self._mode == "block" and spans:
            self.blocked = True
            self._pending = self._before = ""
            return []
        cut = max([cut, *(span.end for span in spans)])
        text = self._pending[:cut]
        shown = text
        if self._mode == "mask":
            # Of a span that began in what was sent, only the rest can be masked.
            shown, spans = mask_with_places(text, [replace(span, start=max(span.start, 0)) for span in spans])
        checked = Checked(shown, tuple(_moved(span, self._sent) for span in spans))
        self._sent += len(shown)
        self._before = (self._before + text)[-_CONTEXT:]
        self._pending = self._pending[cut:]
        return [checked]

    def _find(self, text: str) -> list[Span]:
        start = time.perf_counter()
        try:
            return sorted(self._detector.find([text])[0], key=lambda span: (span.start, -span.end))
        except Exception as error:  # a detector may raise anything; whatever it is, nothing was checked
            raise AuditError("the detector failed") from error
        finally:
            self._on_check(time.perf_counter() - start)


def _moved(span: Span, by: int) -> Span:
    return Span(span.start + by, span.end + by, span.label, span.text)
