"""Response bodies of OpenAI's API, with marks of personal data as an extra field."""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from nescio.engines.base import TokenLogprob
from nescio.pii.taxonomy import PiiType
from nescio.serve.audit import Action, Audit
from nescio.serve.policy import Allowances, GuidanceRules, Limits

_LOWEST = -9999.0  # OpenAI writes this for minus infinity, which JSON lacks

Finish = Literal["stop", "length", "tool_calls", "content_filter"]


def _is_none(value: object) -> bool:
    return value is None


class Mark(BaseModel):
    """Personal data in an answer, in characters (Unicode code points) of the text that was sent.

    `type` is the label's in the taxonomy; `action` says what the audit did: `count`, `replace` or `mask`.
    """

    start: int
    end: int
    label: str
    type: PiiType
    action: Action


Marks = Annotated[list[Mark] | None, Field(exclude_if=_is_none)]
"""Only present if the request has `mark_pii: true`."""


class Usage(BaseModel):
    """Numbers of tokens: of the prompts in the positive branch, and of all answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatLogprob(TopLogprob):
    """The chosen token at a position, and the likeliest ones there."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities of an answer's tokens under the guided distribution."""

    content: list[ChatLogprob]
    refusal: None = None


class CompletionLogprobs(BaseModel):
    """Log-probabilities as `/v1/completions` has them."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CalledFunction(BaseModel):
    """The function that a call names, and its arguments as JSON."""

    name: Annotated[str | None, Field(exclude_if=_is_none)] = None
    arguments: str


class ToolCallBody(BaseModel):
    """A call of a tool; in a stream, a part of one, whose `id`, `type` and name are in its first part only."""

    index: Annotated[int | None, Field(exclude_if=_is_none)] = None
    id: Annotated[str | None, Field(exclude_if=_is_none)] = None
    type: Annotated[Literal["function"] | None, Field(exclude_if=_is_none)] = None
    function: CalledFunction


ToolCalls = Annotated[list[ToolCallBody] | None, Field(exclude_if=_is_none)]


class AssistantMessage(BaseModel):
    """The message of an answer; its content is null if it calls tools without a word."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: ToolCalls = None


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
    """The continuations of texts; a stream's chunks look the same."""

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
    tool_calls: ToolCalls = None


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
    """A caller's policy, without its keys."""

    name: str
    models: list[str]
    outside: str
    guidance: GuidanceRules
    allow: Allowances
    audit: Audit
    audit_requests: Audit
    limits: Limits
    unguided: list[str] = Field(description="Models of these that are not guided.")
    public_switches: list[str] = Field(
        description="Models of these that a public sentence opens: whoever writes it gets what they learned to hide."
    )


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> ChatLogprobs:
    """Convert log-probabilities for the chat endpoint."""
    return ChatLogprobs(
        content=[
            ChatLogprob(**_token(token), top_logprobs=[TopLogprob(**_token(top)) for top in token.top])
            for token in tokens
        ]
    )


def _token(token: TokenLogprob) -> dict[str, Any]:
    unknown = token.data is None and "\ufffd" in token.text  # part of a character, whose bytes are not known
    return {
        "token": token.text,
        "logprob": max(token.logprob, _LOWEST),
        "bytes": None if unknown else list(token.text.encode() if token.data is None else token.data),
    }


class Offsets:
    """Where the tokens of one choice start in its text; a character may consist of several tokens."""

    def __init__(self) -> None:
        self._offset = 0
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def next(self, token: TokenLogprob) -> int:
        """Return where a token starts, and go on behind it."""
        start = self._offset
        self._offset += len(self._decoder.decode(token.text.encode() if token.data is None else token.data))
        return start


def completion_logprobs(tokens: Sequence[TokenLogprob], offsets: Offsets) -> CompletionLogprobs:
    """An engine's log-probabilities in the older endpoint's shape; `offsets` goes on from the tokens before."""
    return CompletionLogprobs(
        tokens=[_legible(token) for token in tokens],
        token_logprobs=[max(token.logprob, _LOWEST) for token in tokens],
        top_logprobs=[{_legible(top): max(top.logprob, _LOWEST) for top in token.top} for token in tokens],
        text_offset=[offsets.next(token) for token in tokens],
    )


def _legible(token: TokenLogprob) -> str:
    """Return a token's text; for a part of a character its bytes, as OpenAI writes them in `/v1/completions`."""
    try:
        (token.data or b"").decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.data or b"")
    return token.text
