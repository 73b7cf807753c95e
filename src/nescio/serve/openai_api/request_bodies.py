"""Request bodies in OpenAI's shapes, with guidance as an extra field.

Fields that OpenAI does not know are refused, as OpenAI refuses them. Fields whose effect is not built are taken where
they change nothing, and else refused by name: see `no_effect`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nescio.core.guidance_fields import setting_type, with_settings
from nescio.serve.openai_api.body import Body, Name, Text, no_control
from nescio.serve.openai_api.no_effect import MESSAGE, REQUEST, without_no_effect
from nescio.serve.openai_api.tool_bodies import MOST_TOOLS, CalledTool, NamedTool, ResponseFormat, Tool

MOST_MESSAGES = 1000
Stop = Annotated[str, Field(max_length=256), AfterValidator(no_control)]
MOST_STOPS = 4  # as at OpenAI
Finite = Annotated[float, Field(allow_inf_nan=False)]
Scale = Annotated[Finite, Field(ge=0)]
Penalty = Annotated[Finite, Field(ge=-2, le=2)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[Finite, Field(ge=-100, le=100)]


class TextPart(Body):
    """One part of a message's content."""

    type: Literal["text"]
    text: Text
    cache_control: dict[str, Any] | None = None  # a hint for other servers
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


def _text_parts(content: Any) -> Any:
    for number, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise ValueError(f"part {number} is of type {kind!r}; this server reads text parts only")
    return content


class ChatMessage(Body):
    """One message of a conversation; `developer` is OpenAI's newer word for `system`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Text | list[TextPart] | None, BeforeValidator(_text_parts)] = None
    name: str | None = None
    refusal: Text | None = None
    tool_calls: Annotated[list[CalledTool], Field(max_length=MOST_TOOLS)] | None = None
    tool_call_id: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_no_effect(cls, message: Any) -> Any:
        return without_no_effect(message, MESSAGE)

    @property
    def text(self) -> str:
        """The content as one text."""
        if self.content is None:
            return self.refusal or ""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        # OpenAI's models put a refusal in place of the content; it is what the assistant said.
        if self.content is None and not (self.role == "assistant" and (self.refusal or self.tool_calls)):
            raise ValueError("content: field required; give a text")
        if (self.tool_calls and self.role != "assistant") or bool(self.tool_call_id) != (self.role == "tool"):
            raise ValueError("tool_calls belong to assistant messages, and a tool_call_id to every tool message")
        if self.refusal and (self.role != "assistant" or self.content):
            raise ValueError("refusal: an assistant message holds either a content or a refusal")
        return self


@with_settings(lambda setting: (setting_type(setting) | None, None))
class GuidanceOptions(Body):
    """Guidance of this answer, within the caller's policy, which sets what is left out.

    Each setting of `Guidance` has a field.
    """

    negative_prompt: Text | None = None


class StreamOptions(Body):
    """What a stream holds besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


def _few(stop: Any) -> Any:
    if isinstance(stop, list) and len(stop) > MOST_STOPS:
        raise ValueError(f"holds {len(stop)} texts; at most {MOST_STOPS} are allowed")
    return stop


class _Sampling(Body):
    """Fields of both endpoints. `user` to `prompt_cache_key` are accepted and have no effect."""

    model: Annotated[str, Field(max_length=256)]
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Annotated[Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None, BeforeValidator(_few)] = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=1024)] | None = None
    guidance: GuidanceOptions | None = None
    guidance_scale: Scale | None = None
    negative_prompt: Text | None = None
    mark_pii: bool | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_no_effect(cls, body: Any) -> Any:
        known = cls.model_fields  # computed each time
        lacking = {name: harmless for name, harmless in REQUEST.items() if name not in known}
        return without_no_effect(body, lacking)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts; an empty one stops nothing."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in stops if stop)

    @property
    def asked_guidance(self) -> GuidanceOptions:
        """The guidance, from `guidance` and the top-level fields together."""
        given = self.guidance or GuidanceOptions()
        short = {"scale": self.guidance_scale, "negative_prompt": self.negative_prompt}
        return given.model_copy(update={name: value for name, value in short.items() if value is not None})

    @model_validator(mode="after")
    def _given_once(self) -> Self:
        for short, name in (("guidance_scale", "scale"), ("negative_prompt", "negative_prompt")):
            if getattr(self, short) is not None and getattr(self.guidance, name, None) is not None:
                raise ValueError(f"{short} and guidance.{name} say the same; give one of them")
        if self.stream_options is not None and self.stream_options.include_usage and not self.stream:
            raise ValueError("stream_options.include_usage needs stream: true")
        return self


class ChatRequest(_Sampling):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    @property
    def asked_logprobs(self) -> int | None:
        """How many likely tokens to list with each chosen token; None: no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @model_validator(mode="after")
    def _tools_to_choose(self) -> Self:
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("tools: two have the same name; give each its own")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(f"tool_choice: {self.tool_choice.function.name} is none of the tools")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: required needs tools")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        lengths = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(lengths) > 1:
            raise ValueError("max_tokens and max_completion_tokens say the same; give one of them")
        return self

    @model_validator(mode="after")
    def _logprobs_on(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self


class CompletionRequest(_Sampling):
    """The body of `/v1/completions`."""

    prompt: (
        Annotated[Text, Field(min_length=1)]
        | Annotated[list[Annotated[Text, Field(min_length=1)]], Field(min_length=1, max_length=128)]
    )
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def prompts(self) -> list[str]:
        """The texts to continue."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def asked_logprobs(self) -> int | None:
        """How many likely tokens to list with each chosen token; None: no log-probabilities."""
        return self.logprobs
