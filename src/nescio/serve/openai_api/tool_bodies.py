"""Tools and response formats in request bodies: what a model may call or has called, and the form of its answer."""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from nescio.serve.openai_api.body import Body, Name, Text

MOST_TOOLS = 128  # as at OpenAI
_DEEPEST = 64


def _shallow(schema: Any) -> Any:
    """Refuse what is nested so deeply that whoever reads it might run out of stack."""
    level = [schema]
    for _ in range(_DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return schema
    raise ValueError(f"is nested more than {_DEEPEST} levels deep; flatten it")


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


_HALF = re.compile("[\ud800-\udfff]")


def _no_half(written: str) -> None:
    """Refuse JSON with what no text can hold, half of a surrogate pair."""
    if _HALF.search(written):
        raise ValueError("holds half of a surrogate pair; remove it")


def _whole_schema(schema: Any) -> Any:
    _no_half(json.dumps(schema, ensure_ascii=False))
    return schema


Schema = Annotated[dict[str, Any], AfterValidator(_shallow), AfterValidator(_whole_schema)]
"""A JSON schema."""


def _whole_arguments(arguments: str) -> str:
    try:
        read = json.dumps(json.loads(arguments, object_pairs_hook=list), ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments  # no JSON, and shown as it is
    _no_half(read)
    return arguments


Arguments = Annotated[Text, AfterValidator(_whole_arguments)]
"""Arguments of a call, as JSON."""


class Function(Body):
    """A function that the model may call."""

    name: Name
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class FunctionName(Body):
    """The name of a function."""

    name: Name


class NamedTool(Body):
    """The one tool that must be called."""

    type: Literal["function"]
    function: FunctionName


class Called(Body):
    """What the model has called, and with which arguments, as JSON.

    OpenAI's client adds `parsed_arguments` to what it received; they are read no further.
    """

    name: Name
    arguments: Arguments
    parsed_arguments: Annotated[Any, Field(exclude=True)] = None


class CalledTool(Body):
    """A call in an assistant message, as it was received; `index` is that of a stream and has no effect."""

    id: Name
    type: Literal["function"] = "function"
    function: Called
    index: int | None = None


class TextFormat(Body):
    """Free text."""

    type: Literal["text"]


class JsonFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Body):
    """A JSON schema with a name."""

    name: Name
    description: Text | None = None
    schema_: Annotated[Schema | None, Field(alias="schema")] = None
    strict: bool | None = None


class SchemaFormat(Body):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")]
