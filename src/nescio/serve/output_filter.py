"""The output filter: a detector reads every text before it is sent, and the policy's audit says what is done then."""

import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nescio.pii.base import Detector, Span, merge
from nescio.pii.stand_ins import StandIns
from nescio.serve.audit import ACTIONS, Action, Audit
from nescio.serve.cuts import LONGEST, Cut, next_cut

_CONTEXT = 200  # sent characters that the detector sees again, for names across a cut
_BORDER = re.compile(r"[\s。！？]")  # no place to cut becomes known inside a word


class FilterError(Exception):
    """The detector failed; unchecked text must not be sent."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Text that may be sent, with its personal data or what replaced it, in characters of everything sent so far."""

    text: str
    spans: tuple[Span, ...] = ()


class OutputFilter:
    """Filter of one answer.

    The output does not depend on how the answer was cut into chunks. Text is checked sentence by sentence, each with
    the text before it, so that the detector sees a name across a cut whole.

    Args:
        detector: Finds personal data.
        audit: What is done with it.
        on_check: Called with the seconds of each check.
    """

    def __init__(
        self, detector: Detector, audit: Audit, on_check: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self.blocked = False
        self._detector = detector
        self._audit = audit
        self._on_check = on_check
        self._stand_ins = StandIns(secrets.token_bytes(32))  # a key of this answer, which nobody can try out
        self._pending = ""
        self._before = ""  # the end of the sent text, before it was changed
        self._sent = 0  # characters sent
        self._tried = 0  # places up to here lie inside personal data

    def feed(self, text: str) -> list[Checked]:
        """Add text of the answer; return the text that may be sent now.

        Raises:
            FilterError: The detector failed.
        """
        is_new_word = bool(_BORDER.search(self._pending[-1:] + text))
        self._pending += text
        checked = []
        if not is_new_word and len(self._pending) < LONGEST:
            return []
        while not self.blocked and (cut := next_cut(self._pending, self._tried)):
            checked += self._check(cut)
        return checked

    def finish(self) -> list[Checked]:
        """End the answer; return the rest that may be sent.

        Raises:
            FilterError: The detector failed.
        """
        rest = len(self._pending)
        return [] if self.blocked or not rest else self._check(Cut(rest, rest))

    def _check(self, cut: Cut) -> list[Checked]:
        # 1) find personal data in what was sent last, what may be sent now, and what follows
        offset, at = len(self._before), cut.at
        found = [_moved(span, -offset) for span in self._find(self._before + self._pending[: cut.seen])]
        judged = [(span, self._audit.action(span)) for span in found if span.end > 0 and span.start < at]
        judged = [(span, action) for span, action in judged if action != "allow"]
        # 2) personal data across the cut: take it whole where a sentence has ended, else wait for what follows it
        if across := [span.end for span, _ in judged if span.end > at]:
            if not cut.sure:
                self._tried = at
                return []
            at = max(across)
        # 3) change what the audit does not let through; of a span that began in sent text only the rest can be
        text = self._pending[:at]
        judged = [(replace(span, start=max(span.start, 0)), action) for span, action in judged]
        shown, marks, self.blocked = self._changed(text, judged)
        if self.blocked:
            self._pending = self._before = ""
            return []
        checked = Checked(shown, tuple(_moved(span, self._sent) for span in marks))
        self._sent += len(shown)
        self._tried = 0
        self._before = _from_a_word(self._before + text)
        self._pending = self._pending[at:]
        return [checked]

    def _changed(self, text: str, judged: Sequence[tuple[Span, Action]]) -> tuple[str, list[Span], bool]:
        """Return a text as it may be sent, where its personal data is in it then, and whether it must not be sent."""
        parts, marks, position, length = list[str](), list[Span](), 0, 0
        for span in merge((span for span, _ in judged), text):  # overlapping spans are treated as the strictest is
            actions = [action for each, action in judged if each.start < span.end and span.start < each.end]
            action = max(actions, key=ACTIONS.index, default="mask")
            if action == "block":
                return "", [], True
            piece = text[span.start : span.end]
            shown = piece
            if action != "count":
                shown = f"[{span.label}]" if action == "mask" else self._stand_ins.of(span.type, piece)
            before = text[position : span.start]
            start = length + len(before)
            length = start + len(shown)
            parts += [before, shown]
            marks.append(replace(span, start=start, end=length, text=shown))
            position = span.end
        return "".join([*parts, text[position:]]), marks, False

    def _find(self, text: str) -> list[Span]:
        start = time.perf_counter()
        try:
            return sorted(self._detector.find([text])[0], key=lambda span: (span.start, -span.end))
        except Exception as error:  # a detector may raise anything; nothing was checked then
            raise FilterError("the detector failed") from error
        finally:
            self._on_check(time.perf_counter() - start)


def _from_a_word(sent: str) -> str:
    """Return the end of the sent text from the beginning of a word: the rest of a number looks like another."""
    if len(sent) <= _CONTEXT:
        return sent
    space = sent.find(" ", len(sent) - _CONTEXT)
    return sent[space + 1 if space >= 0 else len(sent) - _CONTEXT :]


def _moved(span: Span, by: int) -> Span:
    return replace(span, start=span.start + by, end=span.end + by)
