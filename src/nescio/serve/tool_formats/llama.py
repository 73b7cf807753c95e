"""Calls as Llama 3.1 to 3.3 write them: `{"name": …, "parameters": {…}}`, after `<|python_tag|>` or alone."""

import json

from nescio.engines.base import ToolCall
from nescio.serve.tool_formats import TOOL_FORMATS, call_of

_TAG = "<|python_tag|>"


@TOOL_FORMATS.register("llama")
class Llama:
    """Objects, several separated by semicolons; an answer that begins with one is nothing but calls."""

    template = '"parameters": dictionary of argument name and its value'
    marks: tuple[str, ...] = (_TAG,)
    starts: tuple[str, ...] = ("{",)

    def calls(self, text: str) -> list[ToolCall]:
        """Return the calls, one object after the other."""
        decoder, found = json.JSONDecoder(), list[ToolCall]()
        rest = text.strip().removeprefix(_TAG).lstrip()
        while rest:
            value, end = decoder.raw_decode(rest)
            found.append(call_of(value, "parameters", "arguments"))
            rest = rest[end:].lstrip("; \n").removeprefix(_TAG)
        return found
