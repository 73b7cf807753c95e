"""Calls as Mistral's models write them: `[TOOL_CALLS]` and a list of objects, or a name with its arguments."""

import json
import re

from nescio.engines.base import ToolCall
from nescio.serve.tool_formats import TOOL_FORMATS, call_of

_MARK = "[TOOL_CALLS]"
_NAME = re.compile(r"\s*([\w-]+)\s*(?:\[CALL_ID\]\w+)?\s*(?:\[ARGS\])?\s*")


@TOOL_FORMATS.register("mistral")
class Mistral:
    """A list of all calls (v3), or one mark, name and object for each (v11 and later)."""

    template = _MARK
    marks: tuple[str, ...] = (_MARK,)
    starts: tuple[str, ...] = ()

    def calls(self, text: str) -> list[ToolCall]:
        """Return the calls of every mark."""
        found = list[ToolCall]()
        for body in text.split(_MARK)[1:]:
            if name := _NAME.match(body):
                found.append(call_of({"name": name[1], "arguments": json.loads(body[name.end() :])}, "arguments"))
            else:
                found += [call_of(each, "arguments") for each in json.loads(body)]
        return found
