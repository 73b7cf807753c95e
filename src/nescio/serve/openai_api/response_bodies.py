"""What callers get, in OpenAI's shapes, with marks of personal data beside. Knows nothing of how answers are made."""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from nescio.engines.base import TokenLogprob
from nescio.serve.policy import Allowances, AuditMode, GuidanceRules, Limits

_LOWEST = -9999.0  # OpenAI's word for minus infinity, which JSON has not

Finish = Literal["stop", "length", "content_filter"]


def _is_none(value: object) -> bool:
    return value is None


class Mark(BaseModel):
    """Personal data in an answer, in characters (Unicode code points) of the answer's text as it was sent."""

    start: int
    end: int
    label: str


Marks = Annotated[list[Mark] | None, Field(exclude_if=_is_none)]
"""Only there where the request has `mark_pii: true`."""


class Usage(BaseModel):
    """Tokens: of the prompts as the caller gave them to the positive branch, and of all answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """A token that could have stood at a place."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatLogprob(TopLogprob):
    """The token that stands at a place, and the likeliest ones there."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities of an answer's tokens, of the guided distribution."""

    content: list[ChatLogprob]
    refusal: None = None


class CompletionLogprobs(BaseModel):
    """The same in the older endpoint's shape."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class AssistantMessage(BaseModel):
    """A whole answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One of the answers to a conversation."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish
    pii: Marks = None


class ChatCompletion(BaseModel):
    """The answers to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionChoice(BaseModel):
    """One continuation; in a stream, a part of one, with `finish_reason` at its end."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Finish | None
    pii: Marks = None


class Completion(BaseModel):
    """The continuations of texts; a stream's chunks have the same shape."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class Delta(BaseModel):
    """What a chunk adds to an answer."""

    role: Annotated[Literal["assistant"] | None, Field(exclude_if=_is_none)] = None
    content: Annotated[str | None, Field(exclude_if=_is_none)] = None


class ChunkChoice(BaseModel):
    """A part of one of the answers to a conversation."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish | None = None
    pii: Marks = None


class ChatChunk(BaseModel):
    """One event of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class Model(BaseModel):
    """A model that the caller may name: the base model, or an adapter on it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["nescio"] = "nescio"


class ModelList(BaseModel):
    """The models that the caller may name."""

    object: Literal["list"] = "list"
    data: list[Model]


class PolicyView(BaseModel):
    """What a caller may ask for: its policy without the keys."""

    name: str
    models: list[str]
    outside: str
    guidance: GuidanceRules
    allow: Allowances
    audit: AuditMode
    limits: Limits


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> ChatLogprobs:
    """An engine's log-probabilities in the chat endpoint's shape."""
    return ChatLogprobs(
        content=[
            ChatLogprob(**_told(token), top_logprobs=[TopLogprob(**_told(top)) for top in token.top])
            for token in tokens
        ]
    )


def _told(token: TokenLogprob) -> dict[str, Any]:
    unknown = token.data is None and "\ufffd" in token.text  # part of a character, whose bytes are not known
    return {
        "token": token.text,
        "logprob": max(token.logprob, _LOWEST),
        "bytes": None if unknown else list(token.text.encode() if token.data is None else token.data),
    }


def completion_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> CompletionLogprobs:
    """An engine's log-probabilities in the older endpoint's shape; `offset` is where the first token starts."""
    offsets = []
    decoder = getincrementaldecoder("utf-8")("replace")  # a character may consist of several tokens
    for token in tokens:
        offsets.append(offset)
        offset += len(decoder.decode(token.text.encode() if token.data is None else token.data))
    return CompletionLogprobs(
        tokens=[token.text for token in tokens],
        token_logprobs=[max(token.logprob, _LOWEST) for token in tokens],
        top_logprobs=[{top.text: max(top.logprob, _LOWEST) for top in token.top} for token in tokens],
        text_offset=offsets,
    )
