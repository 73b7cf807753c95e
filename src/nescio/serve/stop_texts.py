"""Stop texts, looked for in what may be sent: nobody can test with them what an audit takes out of an answer."""

from collections.abc import Sequence
from dataclasses import replace

from nescio.serve.checker import Checked, Treated


class StopTexts:
    """Ends an answer's checked text before its first stop text.

    The output does not depend on how the text was cut: the stop text that is complete first counts, and what may be the
    beginning of one waits for the rest.

    Args:
        stops: The stop texts.

    Attributes:
        found: Whether one of them ended the answer.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = False
        self._stops = [stop for stop in stops if stop]
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self._read = 0  # characters let through
        self._spans = list[Treated]()

    def feed(self, checked: Checked, *, last: bool = False) -> Checked:
        """Add checked text; return what may be sent now.

        Args:
            checked: The text, with marks in characters of all text so far.
            last: Nothing follows.
        """
        if self.found:
            return Checked("")
        self._held += checked.text
        self._spans += checked.spans
        # 1) up to the first stop text, or to what may become one
        ends = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        self.found = bool(ends)
        ready = min(ends)[1] if ends else len(self._held) if last else self._begun()
        text, self._held = self._held[:ready], self._held[ready:]
        self._read += ready
        # 2) marks whose text has been let through; a stop text may cut one short
        if self.found:
            cut = (replace(each, text=each.text[: self._read - each.start]) for each in self._spans)
            self._spans = [replace(each, end=min(each.end, self._read)) for each in cut if each.start < self._read]
        spans = tuple(span for span in self._spans if span.end <= self._read)
        self._spans = [span for span in self._spans if span.end > self._read]
        return Checked(text, spans)

    def _begun(self) -> int:
        """Return where what is held may be the beginning of a stop text."""
        end = len(self._held)
        places = range(max(0, end - self._longest + 1), end)
        return next((at for at in places if any(stop.startswith(self._held[at:]) for stop in self._stops)), end)
