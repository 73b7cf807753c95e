"""The body of `/v1/responses`, read as a chat request. Nothing is kept: a conversation is sent whole each time."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from nescio.serve.openai_api.body import Body, Name, Text
from nescio.serve.openai_api.no_effect import RESPONSES, without_no_effect
from nescio.serve.openai_api.request_bodies import MOST_MESSAGES, ChatRequest, Finite, GuidanceOptions, StreamOptions
from nescio.serve.openai_api.tool_bodies import MOST_TOOLS, Function, JsonFormat, NamedSchema, TextFormat

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Body):
    """A part of a message; in messages that are sent back it holds what the answer had."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Body):
    """A message, as a client writes it or as it was received."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[InputText]
    id: str | None = None
    status: Status | None = None


class InputCall(Body):
    """A call of a function, as it was received."""

    type: Literal["function_call"]
    call_id: Name
    name: Name
    arguments: Text
    id: str | None = None
    status: Status | None = None


class CallOutput(Body):
    """What a function has returned."""

    type: Literal["function_call_output"]
    call_id: Name
    output: Text | list[InputText]
    id: str | None = None
    status: Status | None = None


_KINDS = ("message", "function_call", "function_call_output")


def _kind(item: Any) -> str | None:
    kind = item.get("type", "message") if isinstance(item, Mapping) else getattr(item, "type", None)
    return kind if kind in _KINDS else None


def _known_kinds(items: Any) -> Any:
    """Drop thoughts, which are never part of a prompt; name an item that this server does not read."""
    if not isinstance(items, list):
        return items
    for number, item in enumerate(items):
        kind = item.get("type") if isinstance(item, Mapping) else None
        if isinstance(kind, str) and kind not in (*_KINDS, "reasoning"):
            raise ValueError(f"item {number} is of type {kind!r}; this server reads {', '.join(_KINDS)}")
    return [item for item in items if not (isinstance(item, Mapping) and item.get("type") == "reasoning")]


Item = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputCall, Tag("function_call")]
    | Annotated[CallOutput, Tag("function_call_output")],
    Discriminator(_kind),
]


class FlatFunction(Function):
    """A function that the model may call; here its fields are those of the tool."""

    type: Literal["function"]


class FlatName(Body):
    """The one function that must be called."""

    type: Literal["function"]
    name: Name


class FlatSchema(NamedSchema):
    """JSON that matches a schema; here its fields are those of the format."""

    type: Literal["json_schema"]


class TextOptions(Body):
    """The form of the answer's text."""

    format: Annotated[TextFormat | JsonFormat | FlatSchema, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None


class ResponsesRequest(Body):
    """The body of `/v1/responses`. `metadata` to `prompt_cache_key` are accepted and have no effect."""

    mark_pii: ClassVar[bool] = False
    wants_usage: ClassVar[bool] = False  # the last event has it anyway

    model: Annotated[str, Field(max_length=256)]
    input: (
        Annotated[Text, Field(min_length=1)]
        | Annotated[list[Item], Field(min_length=1, max_length=MOST_MESSAGES), BeforeValidator(_known_kinds)]
    )
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[FlatFunction], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatName | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    guidance: GuidanceOptions | None = None
    metadata: dict[Text, Text] | None = None
    user: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_no_effect(cls, body: Any) -> Any:
        return without_no_effect(body, RESPONSES)

    def as_chat(self) -> ChatRequest:
        """Return the chat request that means the same.

        Raises:
            pydantic.ValidationError: There is none, such as where a tool must be called and none is given.
        """
        shape: dict[str, Any] = {}
        if self.tools:
            tools = (tool.model_dump(exclude={"type"}, exclude_none=True) for tool in self.tools)
            shape["tools"] = [{"type": "function", "function": tool} for tool in tools]
        if isinstance(self.tool_choice, FlatName):
            shape["tool_choice"] = {"type": "function", "function": {"name": self.tool_choice.name}}
        elif self.tool_choice:
            shape["tool_choice"] = self.tool_choice
        if self.text and self.text.format:
            told = self.text.format.model_dump(by_alias=True, exclude_none=True)
            kind = told.pop("type")
            shape["response_format"] = {"type": kind, **({"json_schema": told} if told else {})}
        same = {
            name: getattr(self, name) for name in ("model", "temperature", "top_p", "stream", "parallel_tool_calls")
        }
        return ChatRequest.model_validate(
            {**same, **shape, "messages": self._messages(), "max_tokens": self.max_output_tokens}
        ).model_copy(update={"guidance": self.guidance})

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            return [*messages, {"role": "user", "content": self.input}]
        for item in self.input:
            if isinstance(item, InputMessage):
                messages.append({"role": item.role, "content": _joined(item.content)})
            elif isinstance(item, CallOutput):
                messages.append({"role": "tool", "content": _joined(item.output), "tool_call_id": item.call_id})
            else:  # calls belong to the assistant's message before them
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": ""})
                function = {"name": item.name, "arguments": item.arguments}
                calls = messages[-1].setdefault("tool_calls", [])
                calls.append({"id": item.call_id, "type": "function", "function": function})
        return messages


def _joined(content: str | list[InputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
