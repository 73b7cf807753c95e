"""Converters from parts of answers to OpenAI's bodies and events, one for each endpoint."""

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from nescio.serve.openai_api.part import Part
from nescio.serve.openai_api.response_bodies import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    Completion,
    CompletionChoice,
    Delta,
    Mark,
    Usage,
    chat_logprobs,
    completion_logprobs,
)


class Converter(Protocol):
    """Converts the answers to one request."""

    endpoint: ClassVar[str]

    def first_events(self, choices: int) -> list[BaseModel]:
        """Return the events that precede the first text."""

    def event(self, part: Part) -> BaseModel:
        """Return the event of a part."""

    def usage_event(self, usage: Usage) -> BaseModel:
        """Return the event with the numbers of tokens."""

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """Return the body of an answer that is not streamed."""


class ChatConverter:
    """Converter of `/v1/chat/completions`.

    Args:
        model: Name of the model that answers.
        marked: Whether personal data is marked.
    """

    endpoint: ClassVar[str] = "chat"

    def __init__(self, model: str, marked: bool) -> None:
        self._head: dict[str, Any] = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._marked = marked

    def first_events(self, choices: int) -> list[BaseModel]:
        """Return an event for each choice, with its role."""
        return [
            self._chunk([ChunkChoice(index=index, delta=Delta(role="assistant", content=""))])
            for index in range(choices)
        ]

    def event(self, part: Part) -> BaseModel:
        """Return a part as a chunk."""
        choice = ChunkChoice(
            index=part.index,
            delta=Delta(content=part.text or None),
            logprobs=chat_logprobs(part.logprobs) if part.logprobs else None,
            finish_reason=part.finish,
            pii=_marks(part) if self._marked else None,
        )
        return self._chunk([choice])

    def usage_event(self, usage: Usage) -> BaseModel:
        """Return a chunk without choices."""
        return self._chunk([], usage)

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """Return all choices in one body."""
        return ChatCompletion(
            **self._head,
            choices=[
                ChatChoice(
                    index=choice.index,
                    message=AssistantMessage(content=choice.text),
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

    endpoint: ClassVar[str] = "completions"

    def __init__(self, model: str, marked: bool) -> None:
        self._head: dict[str, Any] = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._marked = marked
        self._lengths: defaultdict[int, int] = defaultdict(int)

    def first_events(self, choices: int) -> list[BaseModel]:
        """Return no events: this endpoint has no roles."""
        return []

    def event(self, part: Part) -> BaseModel:
        """Return a part as a body with one choice."""
        offset = self._lengths[part.index]
        self._lengths[part.index] += sum(len(token.text) for token in part.logprobs or ())
        return Completion(**self._head, choices=[self._choice(part, offset)])

    def usage_event(self, usage: Usage) -> BaseModel:
        """Return a body without choices."""
        return Completion(**self._head, choices=[], usage=usage)

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """Return all choices in one body."""
        return Completion(**self._head, choices=[self._choice(choice, 0) for choice in choices], usage=usage)

    def _choice(self, part: Part, offset: int) -> CompletionChoice:
        return CompletionChoice(
            index=part.index,
            text=part.text,
            logprobs=None if part.logprobs is None else completion_logprobs(part.logprobs, offset),
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
            logprobs=before.logprobs if part.logprobs is None else [*(before.logprobs or []), *part.logprobs],
            finish=part.finish,
        )
    return whole


def _marks(part: Part) -> list[Mark]:
    return [Mark(start=span.start, end=span.end, label=span.label) for span in part.spans]
