"""Admission: turns a request body into engine requests that the caller's policy allows.

Every engine request made here carries the policy's protect sentence, and an adapter and a guidance that it allows.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from nescio.core.errors import NescioError
from nescio.core.guidance import COMBINING, PROTECT, REVEAL, Guidance
from nescio.core.prompts import Message, after_sentence, with_sentence
from nescio.core.switch import check_filled
from nescio.engines.base import Prompt, Request
from nescio.serve.answer_shape import admit_shape, turn_of
from nescio.serve.control_tokens import refuse_control
from nescio.serve.errors import ApiError, of_validation, outside_policy
from nescio.serve.openai_api.request_bodies import ChatMessage, ChatRequest, CompletionRequest, GuidanceOptions
from nescio.serve.openai_api.responses_request import ResponsesRequest
from nescio.serve.policy import Among, Caller, Policy, Range
from nescio.serve.served import Served

T = TypeVar("T")

_COMPLETION_TOKENS = 16  # OpenAI's default of the older endpoint
_SEEDS = 1 << 63
_LEAST_TOP_P = 1e-9  # OpenAI accepts 0, which leaves the likeliest token only


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that its caller's policy allows.

    Attributes:
        model: Name of the model that answers.
        requests: Engine requests, one for each choice; `n` for each prompt.
        n: Choices for each prompt.
        fit: Whether answers may be shortened to fit the context. False if the caller gave a length.
        prompt_field: The body's field that is wrong where a prompt is too long.
        length_field: The one that is wrong where its answer is.
    """

    model: str
    requests: list[Request]
    n: int
    fit: bool
    prompt_field: str
    length_field: str

    @property
    def guided(self) -> bool:
        """Whether a negative branch runs too."""
        guidance = self.requests[0].guidance
        return guidance is not None and guidance.guided

    @property
    def rows(self) -> int:
        """Number of batch rows that all choices take together."""
        return len(self.requests) * (2 if self.guided else 1)

    @property
    def most_tokens(self) -> int:
        """Largest number of new tokens of all choices together."""
        return sum(request.max_tokens for request in self.requests)


def admit_chat(body: ChatRequest, caller: Caller, served: Served) -> Admitted:
    """Admit a chat request.

    Raises:
        ApiError: The policy refuses the request, or it can't be served.
    """
    policy = caller.policy
    model = served.named(body.model, policy)
    messages = _messages(body.messages, policy, served)
    shape = admit_shape(body, policy, served)
    refuse_control(body.asked_guidance.negative_prompt, "negative_prompt", served)
    guidance = _guidance(body.asked_guidance, policy, served, model)
    # What the caller says stays apart from the policy's sentences: its audit reads the one and not the other.
    replaced = _allowed_negative(body.asked_guidance, policy)
    negative = with_sentence(messages, replaced) if guidance.guided and replaced is not None else None
    asked = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    prompts = [(messages, negative)]
    return _admitted(body, policy, served, model, guidance, prompts, asked, policy.limits.max_tokens, shape)


def admit_response(body: ResponsesRequest, caller: Caller, served: Served) -> Admitted:
    """Admit a request of `/v1/responses`.

    Raises:
        ApiError: As for `admit_chat`, or no chat means the same.
    """
    try:
        chat = body.as_chat()
    except ValidationError as error:
        raise of_validation([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None
    return replace(admit_chat(chat, caller, served), prompt_field="input", length_field="max_output_tokens")


def admit_completion(body: CompletionRequest, caller: Caller, served: Served) -> Admitted:
    """Admit a completion request. The protect sentence precedes each text, the reveal sentence its negative branch.

    Raises:
        ApiError: As for `admit_chat`, or the policy allows no completions.
    """
    policy = caller.policy
    if not policy.allow.completions:
        raise outside_policy("this key's policy has no completions; use /v1/chat/completions", "prompt")
    model = served.named(body.model, policy)
    for text in [*body.prompts, body.asked_guidance.negative_prompt]:
        refuse_control(text, "prompt", served)
    guidance = _guidance(body.asked_guidance, policy, served, model)
    replaced = _allowed_negative(body.asked_guidance, policy)
    if guidance.guided and replaced is None:
        try:
            check_filled(guidance.negative or "")
        except NescioError as error:  # in a chat it is the engine that says so
            raise ApiError(400, str(error), "invalid_value") from None
    prompts: list[tuple[Prompt, Prompt | None]] = []
    for text in body.prompts:
        negative = replaced if replaced is not None else after_sentence(guidance.negative, text)
        prompts.append((after_sentence(guidance.positive, text), negative if guidance.guided else None))
    default = min(_COMPLETION_TOKENS, policy.limits.max_tokens)
    return _admitted(body, policy, served, model, guidance, prompts, body.max_tokens, default)


def _admitted(
    body: ChatRequest | CompletionRequest,
    policy: Policy,
    served: Served,
    model: str,
    guidance: Guidance,
    prompts: Sequence[tuple[Prompt, Prompt | None]],
    asked_tokens: int | None,
    default_tokens: int,
    shape: Mapping[str, Any] | None = None,
) -> Admitted:
    n = body.n or 1
    if n * len(prompts) > policy.limits.choices:
        if policy.outside == "refuse" or len(prompts) > policy.limits.choices:
            raise outside_policy(f"this key's policy allows {policy.limits.choices} answers a request", "n")
        n = policy.limits.choices // len(prompts)
    max_tokens = default_tokens if asked_tokens is None else asked_tokens
    if max_tokens > policy.limits.max_tokens:
        if policy.outside == "refuse":
            raise outside_policy(f"this key's policy allows {policy.limits.max_tokens} tokens", "max_tokens")
        max_tokens = policy.limits.max_tokens
    seed = secrets.randbelow(_SEEDS) if body.seed is None else body.seed
    requests = [
        Request(
            prompt,
            guidance,
            negative=negative,
            adapter=model if model in served.adapters else None,
            max_tokens=max_tokens,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else max(body.top_p, _LEAST_TOP_P),
            top_k=max(body.top_k or 0, 0),
            min_p=body.min_p or 0.0,
            presence_penalty=body.presence_penalty or 0.0,
            frequency_penalty=body.frequency_penalty or 0.0,
            logit_bias=_bias(body, policy),
            seed=(seed + number) % _SEEDS,
            stop=body.stops,
            logprobs=_logprobs(body, policy),
            **(shape or {}),
        )
        for prompt, negative in prompts
        for number in range(n)
    ]
    prompt_field = "messages" if isinstance(body, ChatRequest) else "prompt"
    is_new = isinstance(body, ChatRequest) and body.max_completion_tokens is not None
    length_field = "max_completion_tokens" if is_new else "max_tokens"
    fit = asked_tokens is None
    return Admitted(model, requests, n, fit=fit, prompt_field=prompt_field, length_field=length_field)


def _messages(given: Sequence[ChatMessage], policy: Policy, served: Served) -> list[Message]:
    """Return the conversation with its leading system messages joined; the protect sentence will follow them."""
    system: list[str] = []
    turns: list[Message] = []
    called: set[str] = set()
    for number, message in enumerate(given):
        refuse_control(message.text, f"messages.{number}.content", served)
        if (message.role == "tool" or message.tool_calls) and not policy.allow.tools:
            raise outside_policy("this key's policy allows no tools", f"messages.{number}.role")
        if message.role == "tool" and message.tool_call_id not in called:
            param = f"messages.{number}.tool_call_id"
            raise ApiError(400, f"{param}: no call before it has this id", "invalid_value", param)
        called |= {call.id for call in message.tool_calls or ()}
        if message.role in ("user", "assistant", "tool"):
            turns.append(turn_of(message, f"messages.{number}", served))
        elif policy.allow.system_message and not turns:
            system.append(message.text)
        elif policy.outside == "refuse":
            allowed = policy.allow.system_message
            said = "system messages only before all others" if allowed else "no system message"
            raise outside_policy(f"this key's policy allows {said}", f"messages.{number}.role")
    if not turns:
        raise ApiError(400, "messages: needs a user message", "invalid_value", "messages")
    if turns[-1].get("tool_calls"):
        raise ApiError(400, "messages: a tool message must follow each call", "invalid_value", "messages")
    if turns[-1]["role"] == "assistant" and not policy.allow.prefill:
        raise outside_policy("this key's policy allows no beginning of the answer; end with a user message", "messages")
    return [*([Message(role="system", content="\n\n".join(system))] if system else []), *turns]


def _guidance(asked: GuidanceOptions, policy: Policy, served: Served, model: str) -> Guidance:
    rules = policy.guidance
    paper = {"positive": PROTECT, "negative": REVEAL} if served.guides else {"positive": "", "negative": ""}
    sentences = paper | dict(served.adapters.get(model, {}))
    rule_of = {setting.name: getattr(rules, setting.name) for setting in COMBINING}
    if model in served.unguided(policy):
        rule_of["scale"] = Range.model_validate(1.0)
    settings = {name: _allowed(getattr(asked, name), rule, policy, name) for name, rule in rule_of.items()}
    return Guidance(
        positive=sentences["positive"] if rules.protect is None else rules.protect,
        negative=sentences["negative"] if rules.reveal is None else rules.reveal,
        **settings,
    )


def _allowed(asked: Any, rule: Range | Among[Any], policy: Policy, name: str) -> Any:
    if isinstance(rule, Range):
        return _within(asked, rule, policy, f"guidance.{name}")
    return _among(asked, rule, policy, f"guidance.{name}")


def _within(asked: float | None, allowed: Range, policy: Policy, param: str) -> float:
    if asked is None:
        return allowed.default
    if not allowed.min <= asked <= allowed.max and policy.outside == "refuse":
        between = f"{allowed.min:g}" if allowed.min == allowed.max else f"{allowed.min:g} to {allowed.max:g}"
        raise outside_policy(f"{param}: this key's policy allows {between}", param)
    return min(max(asked, allowed.min), allowed.max)


def _among(asked: T | None, rule: Among[T], policy: Policy, param: str) -> T:
    if asked is None:
        return rule.default
    if asked not in rule.allowed and policy.outside == "refuse":
        among = ", ".join(json.dumps(one) for one in rule.allowed)
        raise outside_policy(f"{param}: this key's policy allows {among}", param)
    return asked if asked in rule.allowed else rule.default


def _allowed_negative(asked: GuidanceOptions, policy: Policy) -> str | None:
    if asked.negative_prompt is None or policy.allow.negative_prompt:
        return asked.negative_prompt
    if policy.outside == "refuse":
        raise outside_policy("this key's policy allows no negative prompt of your own", "negative_prompt")
    return None


def _logprobs(body: ChatRequest | CompletionRequest, policy: Policy) -> int | None:
    if body.asked_logprobs is None:
        return None
    if body.mark_pii:
        raise ApiError(
            400, "mark_pii checks whole sentences and logprobs lists tokens; ask for one", "invalid_value", "logprobs"
        )
    if policy.allow.logprobs:
        return body.asked_logprobs
    if policy.outside == "refuse":
        raise outside_policy("this key's policy allows no log-probabilities", "logprobs")
    return None


def _bias(body: ChatRequest | CompletionRequest, policy: Policy) -> dict[int, float]:
    if not body.logit_bias or policy.allow.logit_bias:
        return {int(token): bias for token, bias in (body.logit_bias or {}).items()}
    if policy.outside == "refuse":
        raise outside_policy("this key's policy allows no bias of single tokens", "logit_bias")
    return {}
