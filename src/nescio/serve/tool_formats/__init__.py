"""Forms in which models write calls of tools, one file each; the model's chat template tells which is its own."""

from collections.abc import Mapping
from typing import Any, Protocol

from nescio.core.registry import Registry
from nescio.engines.base import ToolCall
from nescio.serve.json_filter import written


class ToolFormat(Protocol):
    """How a family of models writes calls.

    Attributes:
        template: Text that stands in the chat templates of the family and of no other.
        marks: Texts at which calls begin, wherever they stand in the answer.
        starts: Texts at which calls begin if the answer starts with them.
    """

    template: str
    marks: tuple[str, ...]
    starts: tuple[str, ...]

    def calls(self, text: str) -> list[ToolCall]:
        """Return the calls that a text holds, from its first mark or start to the end of the answer.

        Raises:
            ValueError, KeyError, TypeError: It holds something else.
        """


TOOL_FORMATS: Registry[type[ToolFormat]] = Registry("nescio.tool_formats", "form of tool calls", __name__)


def format_of(template: str) -> ToolFormat | None:
    """Return the form of calls of a model with this chat template, or None if none is known."""
    formats = (TOOL_FORMATS.get(name)() for name in TOOL_FORMATS.names())
    return next((each for each in formats if each.template in template), None)


def call_of(value: Mapping[str, Any], *keys: str) -> ToolCall:
    """Return a call from an object with a name, and with the arguments under the first of the keys that it has.

    Raises:
        ValueError, KeyError, TypeError: It is no such object.
    """
    arguments = value[next((key for key in keys if key in value), keys[0])]
    if not (isinstance(value["name"], str) and isinstance(arguments, dict)):
        raise ValueError("a call has a name and an object of arguments")
    return ToolCall(value["name"], written(arguments))
