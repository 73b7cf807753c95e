"""The JSON schema that a request's answer has to match, from its response format or from tools that must be called."""

from collections.abc import Mapping, Sequence
from typing import Any

from nescio.engines.base import Request, Tool

_DEFS = "#/$defs/"


def schema_of(request: Request) -> dict[str, Any] | None:
    """Return the schema of a request's answer, or None for free text.

    If a tool must be called, the answer is a list of calls, `[{"name": …, "arguments": {…}}]`, whatever the model's own
    form is.
    """
    if forced := forced_tools(request):
        most = {} if request.parallel_tool_calls and request.tool_choice == "required" else {"maxItems": 1}
        defs: dict[str, Any] = {}
        calls = [_call(tool, defs) for tool in forced]
        return {"type": "array", "minItems": 1, **most, "items": {"anyOf": calls}, "$defs": defs}
    wanted = request.response_format or {}
    if wanted.get("type") == "json_object":
        return {"type": "object"}
    if wanted.get("type") == "json_schema":
        return dict(wanted["json_schema"].get("schema") or {})
    return None


def field_of(request: Request) -> str:
    """Return the field that the schema of a request's answer comes from."""
    return "tools" if forced_tools(request) else "response_format"


def forced_tools(request: Request) -> Sequence[Tool]:
    """Return the tools one of which must be called; none if the model may choose."""
    if isinstance(request.tool_choice, Mapping):
        name = request.tool_choice["function"]["name"]
        return [tool for tool in request.tools if tool["function"]["name"] == name]
    return request.tools if request.tool_choice == "required" else ()


def _call(tool: Tool, defs: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a call; definitions of the tool's parameters move to the whole schema's."""
    name = tool["function"]["name"]
    parameters = dict(tool["function"].get("parameters") or {"type": "object"})
    own = parameters.pop("$defs", {})
    defs |= {f"{name}.{key}": _renamed(schema, name) for key, schema in own.items()}
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": _renamed(parameters, name)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _renamed(schema: Any, name: str) -> Any:
    """Return a schema whose references point to where a tool's definitions have moved."""
    if isinstance(schema, list):
        return [_renamed(each, name) for each in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {key: _renamed(value, name) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith(_DEFS):
        renamed["$ref"] = f"{_DEFS}{name}.{reference.removeprefix(_DEFS)}"
    return renamed
