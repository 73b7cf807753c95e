"""The audits of a policy inside LiteLLM's proxy, as a guardrail that its `config.yaml` names.

LiteLLM's own way for guardrails that rewrite answers leaves streamed calls of tools out, and drops rewrites from
streams unless it is told otherwise. So streams have a hook of their own here.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from nescio.core.errors import NescioError
from nescio.core.prompts import Message
from nescio.engines.base import Request
from nescio.serve.answer_filter import AnswerFilter
from nescio.serve.checker import Checker
from nescio.serve.detection import ServingDetector
from nescio.serve.errors import ApiError
from nescio.serve.failures import to_api_error
from nescio.serve.policy import DEFAULT, load_policies
from nescio.serve.request_filter import RequestFilter

try:
    from litellm.exceptions import GuardrailRaisedException
    from litellm.integrations.custom_guardrail import CustomGuardrail
    from litellm.types.utils import Delta, ModelResponse, ModelResponseStream, StreamingChoices, TextCompletionResponse
    from litellm.types.utils import Message as AnswerMessage
except ImportError as error:
    raise NescioError("LiteLLM is not installed; run `pip install 'litellm[proxy]'`") from error

_CUT = ("length", "content_filter")  # ends of answers that break off


class Guardrail(CustomGuardrail):  # type: ignore[misc]
    """Checks requests by a policy's `audit_requests`, and answers by its `audit`; its other keys have no effect.

    What LiteLLM shows to no guardrail is taken out of answers: thoughts, log-probabilities, pictures. What can't be
    checked is refused: pictures in requests, and streams of anything but chats.

    Args:
        policies: Path of a policy file, of which the policy `default` counts.
        **others: LiteLLM's own, such as `guardrail_name` and `event_hook`.

    Raises:
        NescioError: The file has a mistake, or something that its detector needs is missing.
    """

    def __init__(self, policies: str, **others: Any) -> None:
        # Without this, LiteLLM does not call the hook for other endpoints' streams, and leaves rewrites out of them.
        super().__init__(**(others | {"mask_response_content": True}))
        read = load_policies(Path(policies), None)
        if DEFAULT not in read.policies:
            raise NescioError(f"{policies}: policies: has no {DEFAULT}, which is the guardrail's; add it")
        self._audit, self._audit_requests = read.policies[DEFAULT].audit, read.policies[DEFAULT].audit_requests
        self._detector = ServingDetector(read.detector, **read.detector_settings)
        self._detector.load()
        # What callers wrote, by stand-in, while LiteLLM holds the request's own object; callers choose ids themselves.
        self._pieces = WeakKeyDictionary[Any, Mapping[str, str]]()

    async def apply_guardrail(
        self, inputs: dict[str, Any], request_data: dict[str, Any], input_type: str, logging_obj: Any = None
    ) -> dict[str, Any]:
        """Return the texts and calls of a request or of a whole answer as they may be sent.

        Raises:
            GuardrailRaisedException: It must not be sent, or could not be checked.
        """
        work = self._of_request if input_type == "request" else self._of_answer
        changed: dict[str, Any] = await _in_thread(work, inputs, request_data)
        return changed

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: AsyncIterator[Any], request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """Yield the chunks of a streamed chat as they may be sent.

        Raises:
            GuardrailRaisedException: What follows must not be sent, or could not be checked.
        """
        answer = _StreamedAnswer(self._new_filter(request_data))
        async for chunk in response:
            yield await _in_thread(answer.feed, chunk)

    def _of_request(self, inputs: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        if self._audit_requests.off:
            return inputs
        if inputs.get("images"):
            raise ApiError(400, "the request has images, in which nothing can be found; send text", "invalid_value")
        texts, calls = inputs.get("texts") or [], inputs.get("tool_calls") or []
        turns = [Message(role="user", content=text) for text in texts]
        turns += [Message(role="assistant", content="", tool_calls=[call]) for call in calls]
        stop = data.get("stop") or ()
        request_filter = RequestFilter(partial(Checker, self._detector, self._audit_requests))
        request = Request(
            turns,
            tools=tuple(inputs.get("tools") or ()),
            response_format=data.get("response_format"),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
        )
        prompt: Any = request_filter.changed([request])[0].prompt
        self._pieces[data["litellm_logging_obj"]] = request_filter.pieces
        changed = [turn["tool_calls"][0]["function"]["arguments"] for turn in prompt[len(texts) :]]
        calls = [_with_arguments(call, arguments) for call, arguments in zip(calls, changed, strict=True)]
        return inputs | {"texts": [turn["content"] for turn in prompt[: len(texts)]], "tool_calls": calls}

    def _of_answer(self, inputs: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        response = data.get("response")
        if isinstance(response, ModelResponse):
            for choice in response.choices:
                own = choice.message
                choice.message = AnswerMessage(content=own.content, role="assistant", tool_calls=own.tool_calls)
                choice.logprobs = None
        elif isinstance(response, TextCompletionResponse):
            for choice in response.choices:
                choice.logprobs = None
        else:
            raise _only_chats()
        new_filter = self._new_filter(data)
        cut = any(choice.finish_reason in _CUT for choice in response.choices)  # which text is whose is not told
        texts = [_whole(new_filter(), text, cut) for text in inputs.get("texts") or []]
        calls = [_checked_call(new_filter(), call, cut) for call in inputs.get("tool_calls") or []]
        return inputs | {"texts": texts, "tool_calls": calls}

    def _new_filter(self, data: Mapping[str, Any]) -> Callable[[], AnswerFilter]:
        """Return what makes the filter of each choice of a request's answer."""
        pieces, asked = self._pieces.get(data["litellm_logging_obj"], {}), _asked(data)

        def new() -> AnswerFilter:
            checker = None if self._audit.off else Checker(self._detector, self._audit, own=pieces)
            return AnswerFilter(checker, pieces, asked=asked)

        return new


class _StreamedAnswer:
    """The choices of a streamed chat: text leaves when it has been checked, calls at the end of their choice."""

    def __init__(self, new_filter: Callable[[], AnswerFilter]) -> None:
        self._filters = defaultdict[int, AnswerFilter](new_filter)
        self._calls: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)

    def feed(self, chunk: Any) -> Any:
        """Return a chunk as it may be sent."""
        if not isinstance(chunk, ModelResponseStream):
            raise _only_chats()
        usage = {"usage": chunk.usage} if getattr(chunk, "usage", None) else {}
        choices = [self._checked(choice) for choice in chunk.choices]
        return ModelResponseStream(choices=choices, id=chunk.id, created=chunk.created, model=chunk.model, **usage)

    def _checked(self, choice: Any) -> Any:
        answer_filter, delta, calls = self._filters[choice.index], choice.delta, self._calls[choice.index]
        for part in delta.tool_calls or ():
            call = calls.setdefault(part.index, {"type": "function", "function": {"name": "", "arguments": ""}})
            call |= {"index": part.index, "id": part.id or call.get("id")}
            call["function"]["name"] += part.function.name or ""
            call["function"]["arguments"] += part.function.arguments or ""
        whole = []
        checked = answer_filter.feed(delta.content or "")
        if choice.finish_reason:
            cut = choice.finish_reason in _CUT
            checked += answer_filter.finish(cut=cut)
            whole = [_checked_call(answer_filter, call, cut) for call in calls.values()]
            calls.clear()
        if answer_filter.blocked:
            raise _blocked()
        text = "".join(each.text for each in checked)
        shown = Delta(content=text or None, role=delta.role, tool_calls=whole or None)
        return StreamingChoices(finish_reason=choice.finish_reason, index=choice.index, delta=shown)


async def _in_thread(work: Callable[..., Any], *args: Any) -> Any:
    """Run what a detector may hold up in a thread.

    Raises:
        GuardrailRaisedException: It failed; nothing that it was to check may be sent.
    """
    try:
        return await asyncio.to_thread(work, *args)
    except Exception as error:  # any error: LiteLLM would tell callers of it, and it may quote them
        refused = to_api_error(error)
        raise GuardrailRaisedException(
            message=str(refused),
            should_wrap_with_default_message=False,
            status_code=refused.status,
            blocked_content=refused.code == "personal_data",
        ) from None


def _whole(answer_filter: AnswerFilter, text: str, cut: bool) -> str:
    checked = [*answer_filter.feed(text), *answer_filter.finish(cut=cut)]
    if answer_filter.blocked:
        raise _blocked()
    return "".join(each.text for each in checked)


def _checked_call(answer_filter: AnswerFilter, call: dict[str, Any], cut: bool) -> dict[str, Any]:
    checked = answer_filter.arguments(call["function"]["arguments"], cut=cut)
    if checked is None:
        raise _blocked()
    return _with_arguments(call, checked.text)


def _with_arguments(call: dict[str, Any], arguments: str) -> dict[str, Any]:
    return call | {"function": dict(call["function"]) | {"arguments": arguments}}


def _asked(data: Mapping[str, Any]) -> str:
    """Return what an answer follows: the text that it goes on with, or the last message and the end of its line."""
    if isinstance(prompt := data.get("prompt"), str):
        return prompt
    content = (data.get("messages") or [{}])[-1].get("content")
    return f"{content}\n" if isinstance(content, str) else ""


def _blocked() -> ApiError:
    return ApiError(400, "the answer holds personal data, and this policy does not let it out", "personal_data")


def _only_chats() -> ApiError:
    message = "answers are checked of /v1/chat/completions, and of /v1/completions without stream; ask there"
    return ApiError(400, message, "unsupported_endpoint")
