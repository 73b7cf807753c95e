"""What an endpoint has said of one answer, read from the chunks of its stream or from the whole."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from nescio.engines.base import ToolCall


@dataclass(slots=True)
class Said:
    """An endpoint's answer so far.

    Attributes:
        text: Its text. Thoughts are left out; a refusal is text.
        finish: Why it ended, as the endpoint says; None: it has not ended.
        usage: The endpoint's count of tokens.
    """

    text: str = ""
    finish: str | None = None
    usage: Any = None
    _calls: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(lambda: ["", ""]))

    def take(self, body: Any) -> str:
        """Add a chunk, or a whole body; return the text that it adds.

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
        self.text += new
        return new

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of tools so far, in order."""
        return tuple(ToolCall(name, arguments) for _, (name, arguments) in sorted(self._calls.items()))


def _text(part: Any) -> str:
    content = part["text"] if "text" in part else (part.get("content") or part.get("refusal"))
    if isinstance(content, list):  # of typed parts, as Mistral's reasoning models answer
        return "".join(
            str(one.get("text", "")) for one in content if isinstance(one, dict) and one.get("type") == "text"
        )
    return str(content or "")
