"""A request against a policy without a model: what the server would do with it."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from nescio.core.guidance import Guidance
from nescio.core.prompts import Message, with_sentence
from nescio.serve.admission import Admitted, admit_chat, admit_completion
from nescio.serve.answer_filter import filter_of
from nescio.serve.checker import Checker
from nescio.serve.detection import ServingDetector
from nescio.serve.errors import ApiError, of_validation
from nescio.serve.openai_api.request_bodies import ChatRequest, CompletionRequest
from nescio.serve.policy import Caller, Policies, Policy
from nescio.serve.request_filter import RequestFilter
from nescio.serve.served import Served
from nescio.serve.tool_formats.forced import Forced


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the server would do: the HTTP status, and why or how, in lines."""

    status: int
    lines: list[str]


def tried(
    policies: Policies, caller: Caller, body: Mapping[str, Any], base_model: str | None, answer: str | None = None
) -> Verdict:
    """Try a request against a policy.

    What a model decides is not tried: its control tokens, its chat template, the length of the prompt.

    Args:
        policies: All policies; their adapters are the models that are served.
        caller: Who asks.
        body: Body of a chat or a completion request.
        base_model: Name of the base model; None: whatever no policy names as an adapter.
        answer: What a model answers; the audits load the detector.

    Raises:
        NescioError: The detector can't be loaded.
    """
    names = {adapter for policy in policies.policies.values() for adapter in policy.adapters}
    asked = str(body.get("model", ""))
    base = base_model or (asked if asked and asked not in names else "the base model")
    # Calls are taken in whichever form the model writes them.
    served = Served(base, {name: {} for name in sorted(names)}, (), int(time.time()), tool_format=Forced())
    found = verdict(caller, body, served, lambda admitted: _audited(admitted, caller.policy, policies, answer))
    if found.status == 200 and asked in names and "scale" not in caller.policy.guidance.model_fields_set:
        found.lines.append("a baked adapter: one row, without guidance and sentences, since the policy sets no scale")
    return found


def verdict(
    caller: Caller,
    body: Mapping[str, Any],
    served: Served,
    audited: Callable[[Admitted], tuple[Admitted, list[str]]] = lambda admitted: (admitted, []),
) -> Verdict:
    """Return what admission says of a request.

    Args:
        caller: Who asks.
        body: Body of a chat or a completion request.
        served: The models.
        audited: Returns the request as it leaves, and more lines.
    """
    try:
        if "messages" in body or "prompt" not in body:
            admitted = admit_chat(_validated(ChatRequest, body), caller, served)
        else:
            admitted = admit_completion(_validated(CompletionRequest, body), caller, served)
        admitted, said = audited(admitted)
    except ApiError as error:
        detail = error.body.error
        place = f" ({detail.param})" if detail.param and not detail.message.startswith(f"{detail.param}:") else ""
        return Verdict(error.status, [f"{error.status} {error.code}{place}: {detail.message}"])
    return Verdict(200, [f"answered under policy {caller.name}", *_described(admitted), *said])


def _audited(admitted: Admitted, policy: Policy, policies: Policies, answer: str | None) -> tuple[Admitted, list[str]]:
    """Return a request as it leaves, and a line that says what the caller would get of an answer."""
    detector = ServingDetector(policies.detector, **policies.detector_settings)
    pieces: Mapping[str, str] = {}
    if not policy.audit_requests.off:
        request_filter = RequestFilter(partial(Checker, detector.load(), policy.audit_requests))
        admitted = replace(admitted, requests=request_filter.changed(admitted.requests))
        pieces = request_filter.pieces
    if answer is None:
        return admitted, []
    checker = None if policy.audit.off else Checker(detector.load(), policy.audit, own=pieces)
    answer_filter = filter_of(admitted.requests[0], checker, pieces)
    shown = "".join(part.text for part in [*answer_filter.feed(answer), *answer_filter.finish()])
    end = "\n[the answer ends here: blocked]" if answer_filter.blocked else ""
    return admitted, [f"  answer     {json.dumps(shown + end, ensure_ascii=False)}"]


def _validated(schema: Any, body: Mapping[str, Any]) -> Any:
    try:
        return schema.model_validate_json(json.dumps(body))
    except RecursionError:
        raise ApiError(400, "the request is nested too deep", "invalid_value") from None
    except ValidationError as error:
        raise of_validation([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None


def _described(admitted: Admitted) -> Iterator[str]:
    request = admitted.requests[0]
    guidance = request.guidance or Guidance()
    yield f"  model      {admitted.model}"
    yield f"  guidance   scale {guidance.scale:g}; space {guidance.space}; rows {admitted.rows}"
    yield f"  protect    {guidance.positive!r}"
    if guidance.guided:
        own = request.negative[0]["content"] if isinstance(request.negative, list) else None  # the caller's, in a chat
        yield f"  reveal     {own or guidance.negative!r}"
    if request.tools:
        yield f"  tools      {', '.join(tool['function']['name'] for tool in request.tools)}"
    number, hot = len(admitted.requests), request.temperature
    yield f"  answers    {number} of at most {request.max_tokens} tokens, temperature {hot:g}"
    if request.logprobs is not None:
        yield f"  logprobs   {request.logprobs} likeliest tokens"
    prompt = request.prompt
    turns = (
        [Message(role="text", content=prompt)] if isinstance(prompt, str) else with_sentence(prompt, guidance.positive)
    )
    for turn in turns:
        yield f"  {turn['role']:<10} {json.dumps(turn['content'], ensure_ascii=False)}"
        yield from (f"  call       {call['function']['name']}" for call in turn.get("tool_calls", ()))
