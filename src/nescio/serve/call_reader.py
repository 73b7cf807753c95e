"""The reader of a local model's answer: tells text, which can be passed on, from calls of tools."""

from collections.abc import Collection

from nescio.engines.base import ToolCall
from nescio.serve.tool_formats import ToolFormat


class CallReader:
    """Reads one answer as it comes. From the first mark of a call on, everything is held until the answer ends.

    Args:
        form: How the model writes calls.
        names: Names of the request's tools. A call of anything else is text.
    """

    def __init__(self, form: ToolFormat, names: Collection[str]) -> None:
        self._form = form
        self._names = names
        self._held = ""
        self._is_open = False  # a call has begun
        self._at_start = True

    def feed(self, text: str) -> str:
        """Add text of the answer; return what is certainly no call."""
        self._held += text
        if self._is_open:
            return ""
        # 1) the beginning of the answer
        if self._at_start:
            head = self._held.lstrip()
            self._is_open = head.startswith(self._form.starts or ("\0",))
            if self._is_open or any(start.startswith(head) for start in self._form.starts):
                return ""
            self._at_start = not head
        # 2) a mark, or what may become one
        found = [at for mark in self._form.marks if (at := self._held.find(mark)) >= 0]
        self._is_open = bool(found)
        cut = (
            min(found)
            if found
            else len(self._held) - max((_begun(self._held, mark) for mark in self._form.marks), default=0)
        )
        free, self._held = self._held[:cut], self._held[cut:]
        return free

    def finish(self) -> tuple[str, list[ToolCall]]:
        """End the answer; return the rest of its text, and its calls. What is held and is no call is text."""
        try:
            calls = self._form.calls(self._held) if self._is_open else []
        except (ValueError, KeyError, TypeError, RecursionError):
            calls = []
        if not calls or any(call.name not in self._names for call in calls):
            return self._held, []
        return "", calls


def _begun(text: str, mark: str) -> int:
    """Return how many characters at the end of a text are the beginning of a mark."""
    return next((length for length in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:length])), 0)
