"""Parts of answers as OpenAI's bodies and events, one class an endpoint. Knows no HTTP and no engine."""

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from nescio.serve.answering import Part
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


class Shape(Protocol):
    """One request's answers in the shape of its endpoint."""

    endpoint: ClassVar[str]

    def opening(self, choices: int) -> list[BaseModel]:
        """The events before the first text."""

    def event(self, part: Part) -> BaseModel:
        """The event of a part."""

    def closing(self, usage: Usage) -> BaseModel:
        """The event that tells the tokens."""

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """The body of an answer that is not streamed."""


class ChatShape:
    """The shape of `/v1/chat/completions`.

    Args:
        model: As it is told to the caller.
        marked: Whether personal data is marked.
    """

    endpoint: ClassVar[str] = "chat"

    def __init__(self, model: str, marked: bool) -> None:
        self._head: dict[str, Any] = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._marked = marked

    def opening(self, choices: int) -> list[BaseModel]:
        """One event a choice, with its role."""
        return [
            self._chunk([ChunkChoice(index=index, delta=Delta(role="assistant", content=""))])
            for index in range(choices)
        ]

    def event(self, part: Part) -> BaseModel:
        """A part as a chunk."""
        choice = ChunkChoice(
            index=part.index,
            delta=Delta(content=part.text or None),
            logprobs=chat_logprobs(part.logprobs) if part.logprobs else None,
            finish_reason=part.finish,
            pii=_marks(part) if self._marked else None,
        )
        return self._chunk([choice])

    def closing(self, usage: Usage) -> BaseModel:
        """A chunk without choices."""
        return self._chunk([], usage)

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """All choices in one body."""
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


class CompletionShape:
    """The shape of `/v1/completions`. Arguments are those of `ChatShape`."""

    endpoint: ClassVar[str] = "completions"

    def __init__(self, model: str, marked: bool) -> None:
        self._head: dict[str, Any] = {"id": f"cmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._marked = marked
        self._lengths: defaultdict[int, int] = defaultdict(int)

    def opening(self, choices: int) -> list[BaseModel]:
        """Nothing: here no role is told."""
        return []

    def event(self, part: Part) -> BaseModel:
        """A part as a body with one choice."""
        offset = self._lengths[part.index]
        self._lengths[part.index] += sum(len(token.text) for token in part.logprobs or ())
        return Completion(**self._head, choices=[self._choice(part, offset)])

    def closing(self, usage: Usage) -> BaseModel:
        """A body without choices."""
        return Completion(**self._head, choices=[], usage=usage)

    def whole(self, choices: Sequence[Part], usage: Usage) -> BaseModel:
        """All choices in one body."""
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
    """The parts of each choice as one."""
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
