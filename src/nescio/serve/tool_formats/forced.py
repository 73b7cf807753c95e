"""Calls that a schema forces, whatever the model's own form is: a list of objects (`engines/answer_schema.py`)."""

import json

from nescio.engines.base import ToolCall
from nescio.serve.tool_formats import call_of


class Forced:
    """The whole answer is a list of calls. It is no form of a model, so it is not registered."""

    template = ""
    marks: tuple[str, ...] = ()
    starts: tuple[str, ...] = ("[",)

    def calls(self, text: str) -> list[ToolCall]:
        """Return the calls of the list."""
        return [call_of(each, "arguments") for each in json.loads(text)]
