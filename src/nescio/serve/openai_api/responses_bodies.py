"""Bodies and events of `/v1/responses`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from nescio.serve.openai_api.response_bodies import Usage

Status = Literal["in_progress", "completed", "incomplete"]


class OutputText(BaseModel):
    """The text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class OutputMessage(BaseModel):
    """A message of the answer."""

    type: Literal["message"] = "message"
    id: str
    status: Status
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class OutputCall(BaseModel):
    """A call of a function."""

    type: Literal["function_call"] = "function_call"
    id: str
    status: Status
    call_id: str
    name: str
    arguments: str


class CachedTokens(BaseModel):
    """How many tokens of the prompt were read from a cache, which is not told here."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class ReasoningTokens(BaseModel):
    """How many tokens of the answer are thoughts: none are made."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Numbers of tokens, as `Usage` has them."""

    input_tokens: int
    input_tokens_details: CachedTokens = CachedTokens()
    output_tokens: int
    output_tokens_details: ReasoningTokens = ReasoningTokens()
    total_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> "ResponseUsage":
        """Return a chat's usage in this endpoint's words."""
        return cls(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        )


class Incomplete(BaseModel):
    """Why an answer is not complete."""

    reason: Literal["max_output_tokens", "content_filter"]


class ResponseBody(BaseModel):
    """An answer. It is stored nowhere."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    error: None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: None = None
    store: Literal[False] = False
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float
    usage: ResponseUsage | None = None


class ResponseEvent(BaseModel):
    """An event of a stream; each type has fields of its own."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int
