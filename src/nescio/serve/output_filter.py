"""The output filter: a detector reads every text before it is sent, and the policy's audit says what is done then."""

import re
from collections.abc import Sequence
from dataclasses import replace

from nescio.serve.checker import Checked, Checker, Judged, moved
from nescio.serve.cuts import LONGEST, Cut, last_cut, next_cut

_CONTEXT = 200  # sent characters that the detector sees again, for names across a cut
_SAYS = re.compile(r"\w")
_BORDER = re.compile(r"[\s。！？]")  # no place to cut becomes known inside a word


class OutputFilter:
    """Filter of one answer's text.

    The output does not depend on how the answer was cut into chunks. Text is checked clause by clause, each with the
    text before it, so that the detector sees a name across a cut whole.

    Args:
        checker: The answer's detector and audit.
        asked: What the answer follows: a question says what a bare number is, and a text may break off within a piece.
    """

    def __init__(self, checker: Checker, asked: str = "") -> None:
        self.blocked = False
        self._checker = checker
        self._pending = ""
        self._before = ""  # the end of the sent text, before it was changed
        self._asked = _from_a_word(asked)
        self._sent = 0  # characters sent
        self._tried = 0  # places up to here lie inside personal data

    def asks_detector(self, text: str) -> bool:
        """Return whether the detector is asked if this text is fed, which takes time."""
        return self._next_cut(text) is not None

    def feed(self, text: str) -> list[Checked]:
        """Add text of the answer; return the text that may be sent now.

        Raises:
            FilterError: The detector failed.
        """
        checked = []
        cut = self._next_cut(text)
        self._pending += text
        while cut:
            checked += self._check(cut)
            cut = self._next_cut()
        return checked

    def finish(self, *, cut: bool = False) -> list[Checked]:
        """End the answer; return the rest that may be sent.

        Args:
            cut: Whether the answer breaks off. If the audit hides anything, its last words are dropped then: the
                detector can't tell a part of a piece.

        Raises:
            FilterError: The detector failed.
        """
        rest = len(self._pending)
        if self.blocked or not rest:
            return []
        return self._check(last_cut(self._pending) if cut and self._checker.hides else Cut(rest, rest))

    def _next_cut(self, text: str = "") -> Cut | None:
        pending = self._pending + text
        is_new_word = not text or bool(_BORDER.search(self._pending[-1:] + text))
        if self.blocked or not (is_new_word or len(pending) >= LONGEST):
            return None
        return next_cut(pending, self._tried, first=not self._sent)

    def _check(self, cut: Cut) -> list[Checked]:
        # 1) find personal data in what was sent last, what may be sent now, and what follows
        offset, at = len(self._before), cut.at
        seen = self._before + self._pending[: cut.seen]
        found = [moved(each, -offset) for each in self._checker.find(seen, self._asked_of(at))]
        judged = [(span, action) for span, action in found if span.end > 0 and span.start < at]
        # 2) personal data across the cut: take it whole where the text or a sentence has ended, else wait for the rest
        if cut.breaks_off:
            at = self._behind(at, found)
            judged = [(replace(s, end=min(s.end, at)), action) for s, action in found if s.end > 0 and s.start < at]
        elif across := [span.end for span, _ in judged if span.end > at]:
            if not cut.sure:
                self._tried = at
                return []
            at = max(across)
        # 3) change what the audit does not let through; of a span that began in sent text only the rest can be
        text = self._pending[:at]
        judged = [(replace(span, start=max(span.start, 0)), action) for span, action in judged]
        shown, marks, self.blocked = self._checker.changed(text, judged)
        if self.blocked:
            self._pending = self._before = ""
            return []
        checked = Checked(shown, tuple(replace(s, start=s.start + self._sent, end=s.end + self._sent) for s in marks))
        self._sent += len(shown)
        self._tried = 0
        self._before = _from_a_word(self._before + text)
        self._pending = self._pending[at:]
        return [checked]

    def _behind(self, at: int, found: Sequence[Judged]) -> int:
        """Return the end of the pieces across or right behind a place that do not leave as they are; `block` is all."""
        if any(action == "block" and span.end > 0 for span, action in found):
            return len(self._pending)
        for span, action in found:
            if action != "count" and span.end > at and not _SAYS.search(self._pending, at, max(at, span.start)):
                at = span.end
        return at

    def _asked_of(self, at: int) -> str:
        """Return what text at the beginning of the answer is read with; plain words need no question."""
        if self._sent or not self._asked:
            return ""
        goes_on = not self._asked.endswith("\n")
        return self._asked if goes_on or any(map(_tells, self._pending[1:at])) else ""


def _tells(letter: str) -> bool:
    return letter.isdigit() or letter.isupper()


def _from_a_word(sent: str) -> str:
    """Return the end of the sent text from the beginning of a word: the rest of a number looks like another."""
    if len(sent) <= _CONTEXT:
        return sent
    space = sent.find(" ", len(sent) - _CONTEXT)
    return sent[space + 1 if space >= 0 else len(sent) - _CONTEXT :]
