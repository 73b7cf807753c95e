"""The output filter: a detector reads every text before it is sent (the policy's `audit`)."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from nescio.core.text import sure_sentence_end
from nescio.pii.base import Detector, Span, mask_with_places
from nescio.serve.policy import AuditMode

_LONGEST = 400  # most characters held back without a sentence end; then the text is cut at a word
_CONTEXT = 200  # sent characters that the detector sees again, for names across a cut


class FilterError(Exception):
    """The detector failed; unchecked text must not be sent."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Text that may be sent, with its personal data or masks, in characters of everything sent so far."""

    text: str
    spans: tuple[Span, ...] = ()


class OutputFilter:
    """Filter of one answer.

    The output does not depend on how the answer was cut into chunks. Text is checked sentence by sentence, each with
    the end of the previous one, so that the detector sees a name across the border whole.

    Args:
        detector: Finds personal data.
        mode: `count` sends everything, `mask` replaces personal data by `[LABEL]`, `block` ends the answer before the
            first sentence with personal data.
        on_check: Called with the seconds of each check.
    """

    def __init__(
        self, detector: Detector, mode: AuditMode, on_check: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self.blocked = False
        self._detector = detector
        self._mode = mode
        self._on_check = on_check
        self._pending = ""
        self._before = ""  # the end of the sent text, before masking
        self._sent = 0

    def feed(self, text: str) -> list[Checked]:
        """Add text of the answer; return the text that may be sent now.

        Raises:
            FilterError: The detector failed.
        """
        self._pending += text
        checked = []
        while not self.blocked and (place := self._cut()):
            checked += self._check(*place)
        return checked

    def finish(self) -> list[Checked]:
        """End the answer; return the rest that may be sent.

        Raises:
            FilterError: The detector failed.
        """
        return [] if self.blocked or not self._pending else self._check(len(self._pending), len(self._pending))

    def _cut(self) -> tuple[int, int] | None:
        """Return how much pending text may be sent and how much the detector must see for that; None: nothing yet."""
        if end := sure_sentence_end(self._pending, _LONGEST):
            return end, end
        if len(self._pending) < _LONGEST:
            return None
        # The second half is checked again with the text that follows, so a name across this cut is seen whole.
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
            # Of a span that began in text already sent, only the rest can be masked.
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
        except Exception as error:  # a detector may raise anything; nothing was checked then
            raise FilterError("the detector failed") from error
        finally:
            self._on_check(time.perf_counter() - start)


def _moved(span: Span, by: int) -> Span:
    return Span(span.start + by, span.end + by, span.label, span.text)
