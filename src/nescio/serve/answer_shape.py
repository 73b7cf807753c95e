"""Admission of what an answer may hold besides free text: calls of tools, and JSON of a given form."""

import json
from typing import Any

from nescio.core.prompts import Message
from nescio.engines.base import Tool
from nescio.serve.control_tokens import refuse_control
from nescio.serve.errors import ApiError, outside_policy
from nescio.serve.openai_api.request_bodies import ChatMessage, ChatRequest
from nescio.serve.openai_api.tool_bodies import NamedTool
from nescio.serve.policy import Policy
from nescio.serve.served import Served
from nescio.serve.tool_formats import TOOL_FORMATS


def admit_shape(body: ChatRequest, policy: Policy, served: Served) -> dict[str, Any]:
    """Return the fields of the engine's request about tools and the response format.

    Raises:
        ApiError: The policy allows none, or the model can't be asked for them.
    """
    tools, wanted = _tools(body, policy, served), _response_format(body, policy)
    choice = body.tool_choice or "auto"
    # An upstream sorts the two out itself.
    if tools and wanted and choice == "auto" and served.guides:
        message = "response_format: not together with tools that may be called; set tool_choice to none or required"
        raise ApiError(400, message, "invalid_value", "response_format")
    return {
        "tools": tuple(tools),
        "tool_choice": choice.model_dump() if isinstance(choice, NamedTool) else choice if tools else "auto",
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "response_format": wanted,
    }


def _tools(body: ChatRequest, policy: Policy, served: Served) -> list[Tool]:
    """Return the tools that the model is shown; none if it may call none."""
    if not body.tools or body.tool_choice == "none":
        return []
    if not policy.allow.tools:
        if policy.outside == "refuse":
            raise outside_policy("this key's policy allows no tools", "tools")
        return []
    if served.guides and served.tool_format is None and body.tool_choice in (None, "auto"):
        known = ", ".join(TOOL_FORMATS)
        message = f"tools: it is not known how this model writes calls; known here: {known}"
        raise ApiError(400, message, "invalid_value", "tools")
    tools: list[Tool] = [tool.model_dump(exclude_none=True) for tool in body.tools]
    for number, tool in enumerate(tools):
        refuse_control(json.dumps(tool, ensure_ascii=False), f"tools.{number}", served)
    return tools


def _response_format(body: ChatRequest, policy: Policy) -> dict[str, Any] | None:
    if body.response_format is None or body.response_format.type == "text":
        return None
    if policy.allow.response_format:
        return body.response_format.model_dump(exclude_none=True, by_alias=True)
    if policy.outside == "refuse":
        raise outside_policy("this key's policy allows free text only", "response_format")
    return None


def turn_of(message: ChatMessage, param: str, served: Served) -> Message:
    """Return a user, assistant or tool message for the engine, with its calls.

    Raises:
        ApiError: A call holds a control token.
    """
    turn = Message(role=message.role, content=message.text)
    if message.tool_calls:
        turn["tool_calls"] = [call.model_dump(exclude={"index"}) for call in message.tool_calls]
        for call in message.tool_calls:
            for form in (call.function.arguments, _unescaped(call.function.arguments)):
                refuse_control(form, f"{param}.tool_calls", served)
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _unescaped(arguments: str) -> str:
    """Return JSON as a chat template writes it: without escapes, which may hide a control token."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments
