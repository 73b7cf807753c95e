"""Calls as Hermes, Qwen 2.5 and Qwen 3 write them: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`."""

import json
import re

from nescio.engines.base import ToolCall
from nescio.serve.tool_formats import TOOL_FORMATS, call_of

_CALL = re.compile(r"\s*<tool_call>(.*?)(?:</tool_call>\s*|$)", re.DOTALL)


@TOOL_FORMATS.register("hermes")
class Hermes:
    """Each call stands between tags."""

    template = "<tool_call>"
    marks: tuple[str, ...] = ("<tool_call>",)
    starts: tuple[str, ...] = ()

    def calls(self, text: str) -> list[ToolCall]:
        """Return the calls between the tags; there must be nothing else."""
        if _CALL.sub("", text):
            raise ValueError("text between the calls")
        return [call_of(json.loads(body), "arguments") for body in _CALL.findall(text)]
