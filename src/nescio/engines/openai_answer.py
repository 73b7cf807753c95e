"""What an endpoint has sent of one answer, read from the chunks of its stream or from the whole."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nescio.engines.base import ToolCall

_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs: no text that is sent can hold them


@dataclass(slots=True)
class PartialAnswer:
    """An endpoint's answer so far.

    Attributes:
        stop: Stop texts; the answer ends before the first.
        stopped: Whether it has ended so.
        ended: Whether nothing more of it is read.
        text: Its text. Thoughts are left out; a refusal is text.
        finish: Why it ended, as the endpoint says; None: it has not ended.
        usage: The endpoint's count of tokens.
    """

    stop: Sequence[str] = ()
    stopped: bool = False
    ended: bool = False
    text: str = ""
    finish: str | None = None
    usage: Any = None
    _read: int = 0  # characters of the text that were returned
    _calls: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(lambda: ["", ""]))

    def add(self, body: Any) -> None:
        """Add a chunk, or a whole body.

        Raises:
            AttributeError, TypeError, ValueError: It is not what OpenAI's API answers.
        """
        self.usage = body.get("usage") or self.usage
        new = ""
        for choice in body.get("choices"):
            if choice.get("index"):  # one answer was asked for
                continue
            self.finish = choice.get("finish_reason") or self.finish
            part = choice.get("delta") or choice.get("message") or choice
            new += _text(part)
            for place, call in enumerate(part.get("tool_calls") or ()):
                index, function = call.get("index"), call.get("function")
                own = self._calls[place if index is None else index]
                own[0] += function.get("name") or ""
                own[1] += function.get("arguments") or ""
        self.text += new if new.isascii() else _HALVES.sub("\ufffd", new)
        # End at the first stop text, which an endpoint may not take.
        if cuts := [at for stop in self.stop if stop and (at := self.text.find(stop)) >= 0]:
            self.text, self.finish, self.stopped = self.text[: min(cuts)], "stop", True

    def ready(self) -> str:
        """Return the text that may be sent now: what is new, but for what may become a stop text."""
        start, ready = self._read, len(self.text)
        if self.stop and not self.finish:
            begun = range(max(start, ready - max(map(len, self.stop)) + 1), ready)
            ready = next((at for at in begun if any(stop.startswith(self.text[at:]) for stop in self.stop)), ready)
        self._read = ready
        return self.text[start:ready]

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of tools so far, in order."""
        return tuple(
            ToolCall(name, _HALVES.sub("\ufffd", arguments)) for _, (name, arguments) in sorted(self._calls.items())
        )


class EventReader:
    """Reads server-sent events, however their bytes are cut."""

    def __init__(self) -> None:
        self._rest, self._data = b"", list[str]()

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yield the data of each event that is whole with these bytes. Read all of it before the next piece.

        Raises:
            UnicodeDecodeError: They are no UTF-8.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line.removeprefix(b"data:").strip().decode())
            elif self._data and not line.rstrip(b"\r"):
                data = "\n".join(self._data)
                self._data.clear()
                yield data


def _text(part: Any) -> str:
    content = part["text"] if "text" in part else (part.get("content") or part.get("refusal"))
    if isinstance(content, list):  # of typed parts, as Mistral's reasoning models answer
        return "".join(
            str(one.get("text", "")) for one in content if isinstance(one, dict) and one.get("type") == "text"
        )
    return str(content or "")
