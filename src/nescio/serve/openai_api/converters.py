"""Converters from parts of answers to OpenAI's bodies and events, one for each endpoint."""

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from nescio.serve.errors import ErrorBody
from nescio.serve.openai_api.part import Call, Part
from nescio.serve.openai_api.request_bodies import ChatRequest, CompletionRequest
from nescio.serve.openai_api.response_bodies import (
    AssistantMessage,
    CalledFunction,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    Completion,
    CompletionChoice,
    Delta,
    Mark,
    Offsets,
    ToolCallBody,
    Usage,
    chat_logprobs,
    completion_logprobs,
)

_DONE = "data: [DONE]\n\n"


class Converter(Protocol):
    """Converts the answers to one request."""

    done: ClassVar[str]
    """What ends a stream."""

    def first_events(self, choices: int) -> list[BaseModel]:
        """Return the events that precede the first text."""

    def events(self, part: Part) -> list[BaseModel]:
        """Return the events of a part."""

    def last_events(self, usage: Usage, with_usage: bool) -> list[BaseModel]:
        """Return the events that follow the last part."""

    def error_event(self, error: ErrorBody) -> BaseModel:
        """Return the event of an error, after which nothing follows."""

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """Return the body of an answer that is not streamed."""


class ChatConverter:
    """Converter of `/v1/chat/completions`.

    Args:
        model: Name of the model that answers.
        body: The request.
    """

    done: ClassVar[str] = _DONE

    def __init__(self, model: str, body: ChatRequest) -> None:
        self._head: dict[str, Any] = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._marked = bool(body.mark_pii)

    def first_events(self, choices: int) -> list[BaseModel]:
        """Return an event for each choice, with its role."""
        return [
            self._chunk([ChunkChoice(index=index, delta=Delta(role="assistant", content=""))])
            for index in range(choices)
        ]

    def events(self, part: Part) -> list[BaseModel]:
        """Return a part as chunks: for each call one with its name and one with its arguments, then the text."""
        calls: list[BaseModel] = [
            self._chunk([ChunkChoice(index=part.index, delta=Delta(tool_calls=[body]))])
            for call in part.calls
            for body in (
                _call(call, arguments=""),
                ToolCallBody(index=call.index, function=CalledFunction(arguments=call.arguments)),
            )
        ]
        if part.calls and not part.text and part.finish is None:
            return calls
        choice = ChunkChoice(
            index=part.index,
            delta=Delta(content=part.text or None),
            logprobs=chat_logprobs(part.logprobs) if part.logprobs else None,
            finish_reason=part.finish,
            pii=_marks(part) if self._marked else None,
        )
        return [*calls, self._chunk([choice])]

    def last_events(self, usage: Usage, with_usage: bool) -> list[BaseModel]:
        """Return a chunk without choices if the numbers of tokens are wanted."""
        return [self._chunk([], usage)] if with_usage else []

    def error_event(self, error: ErrorBody) -> BaseModel:
        """Return the error's own body."""
        return error

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """Return all choices in one body."""
        return ChatCompletion(
            **self._head,
            choices=[
                ChatChoice(
                    index=choice.index,
                    message=AssistantMessage(
                        content=None if choice.calls and not choice.text else choice.text,
                        tool_calls=[_call(call) for call in choice.calls] or None,
                    ),
                    logprobs=None if choice.logprobs is None else chat_logprobs(choice.logprobs),
                    finish_reason=choice.finish or "stop",
                    pii=_marks(choice) if self._marked else None,
                )
                for choice in choices
            ],
            usage=usage,
        )

    def _chunk(self, choices: list[ChunkChoice], usage: Usage | None = None) -> ChatChunk:
        return ChatChunk(**self._head, choices=choices, usage=usage)


class CompletionConverter:
    """Converter of `/v1/completions`; its arguments are those of `ChatConverter`."""

    done: ClassVar[str] = _DONE

    def __init__(self, model: str, body: CompletionRequest) -> None:
        self._head: dict[str, Any] = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._marked = bool(body.mark_pii)
        self._offsets: defaultdict[int, Offsets] = defaultdict(Offsets)

    def first_events(self, choices: int) -> list[BaseModel]:
        """Return no events: this endpoint has no roles."""
        return []

    def events(self, part: Part) -> list[BaseModel]:
        """Return a part as a body with one choice."""
        return [Completion(**self._head, choices=[self._choice(part, self._offsets[part.index])])]

    def last_events(self, usage: Usage, with_usage: bool) -> list[BaseModel]:
        """Return a body without choices if the numbers of tokens are wanted."""
        return [Completion(**self._head, choices=[], usage=usage)] if with_usage else []

    def error_event(self, error: ErrorBody) -> BaseModel:
        """Return the error's own body."""
        return error

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """Return all choices in one body."""
        return Completion(**self._head, choices=[self._choice(choice, Offsets()) for choice in choices], usage=usage)

    def _choice(self, part: Part, offsets: Offsets) -> CompletionChoice:
        return CompletionChoice(
            index=part.index,
            text=part.text,
            logprobs=None if part.logprobs is None else completion_logprobs(part.logprobs, offsets),
            finish_reason=part.finish,
            pii=_marks(part) if self._marked else None,
        )


def joined(parts: Iterable[Part], choices: int) -> list[Part]:
    """Join the parts of each choice."""
    whole = [Part(index) for index in range(choices)]
    for part in parts:
        before = whole[part.index]
        whole[part.index] = replace(
            before,
            text=before.text + part.text,
            spans=before.spans + part.spans,
            calls=before.calls + part.calls,
            logprobs=before.logprobs if part.logprobs is None else [*(before.logprobs or []), *part.logprobs],
            finish=part.finish,
        )
    return whole


def _call(call: Call, arguments: str | None = None) -> ToolCallBody:
    """Return a call, whole or as its first part in a stream."""
    function = CalledFunction(name=call.name, arguments=call.arguments if arguments is None else arguments)
    index = None if arguments is None else call.index
    return ToolCallBody(index=index, id=call.id, type="function", function=function)


def _marks(part: Part) -> list[Mark]:
    return [
        Mark(start=span.start, end=span.end, label=span.label, type=span.type, action=span.action)
        for span in part.spans
    ]
