"""The engine of OpenAI-compatible endpoints: OpenAI, Together, vLLM, Ollama, llama.cpp.

Text goes to the completion endpoint, a conversation to the chat endpoint. The client backs off with jitter, or for as
long as the server asks, when a server is busy, broken, slow or cut off. The key is read from the environment. Keys and
answers are in no error message, and of prompts no more than a few characters that an endpoint repeats.
"""

import asyncio
import json
import logging
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT
from nescio.core.prompts import with_sentence
from nescio.engines.base import (
    Answer,
    EndpointError,
    Engine,
    EngineClosedError,
    Piece,
    Request,
    Stream,
    UnansweredError,
    check_plain,
)
from nescio.engines.concurrent import answer_all
from nescio.engines.endpoint_client import LONGEST_ASKED, EndpointClient, RefusedError
from nescio.engines.endpoint_errors import quotable_message, to_endpoint_error
from nescio.engines.endpoint_parameters import Parameters, wanted
from nescio.engines.openai_answer import EventReader, PartialAnswer
from nescio.engines.registry import ENGINES, check_options, endpoint

_LOG = logging.getLogger("nescio.engines")
_CLOSED = "the engine was closed before the answer was complete"
_MALFORMED_TRIES = 3
_REST = 5.0  # seconds for the rest of a body behind an answer's end, so that its connection is used again
_BYTES_PER_TOKEN = 4  # of common tokenizers and languages


class OpenAIEngine(Engine):
    """An endpoint as an engine, without guidance and likelihoods. Its adapters are further models of the endpoint.

    Args:
        model: The endpoint's name of the model.
        base_url: Address of the API, up to `/v1`; None is OpenAI's own.
        key_env: Environment variable that holds the key; None for a server without keys.
        concurrency: Number of requests that `generate` sends at once.
        timeout: Seconds to wait for an answer.
        retries: Number of repeats after HTTP 408, 409, 429, 5xx, a time-out or a cut connection.
        models: Further models there, which a request names as its adapter.
        strict: Whether a temperature, `top_p` or `top_k` that the model refuses is an error. Otherwise it is left out
            from then on, with a warning.
        longest_asked: Most seconds that a busy server may ask to be left alone; if it asks for more, the request fails.

    Attributes:
        models: The further models; more may be added.

    Raises:
        NescioError: The client is not installed or the key is not set.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        key_env: str | None = "OPENAI_API_KEY",
        *,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        models: Sequence[str] = (),
        strict: bool = False,
        longest_asked: float = LONGEST_ASKED,
    ) -> None:
        self._key = os.environ.get(key_env, "").strip() if key_env else None
        if key_env and not self._key:
            raise NescioError(
                f"{model}: {key_env} is not set; export it, or give key_env: null for a server without keys"
            )
        if self._key and len(self._key.split()) != 1:
            raise NescioError(f"{model}: {key_env} holds a space or a line break; set it to the key alone")
        self.model, self.concurrency, self.models = model, concurrency, set(models)
        self._key_env, self._timeout = key_env, timeout
        self._endpoint = EndpointClient(base_url, self._key, timeout, retries, longest_asked)
        self._parameters = defaultdict[str, Parameters](lambda: Parameters(strict))  # by model
        self._warned: set[str] = set()
        self._lock = threading.Lock()  # guards what was warned of
        self._place = f"{model} at {self._endpoint.host}"

    @property
    def closed(self) -> bool:
        """Whether the connections were closed."""
        return self._endpoint.closed

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, several at once, and return the answers in order.

        Raises:
            UnansweredError: A request got no answer, however often it was sent.
            NescioError: The key is refused, the model is unknown, or a request asks for what an endpoint can't do.
        """
        for request in requests:
            self._check(request)
        return answer_all(requests, self._answer, self.concurrency, progress)

    def submit(self, request: Request) -> Stream:
        """Start answering and return at once; callable from any thread."""
        self._check(request)
        partial = PartialAnswer(request.stop)

        def cancel() -> None:
            if not partial.ended:
                # Nobody waits for an endpoint that hangs: the answer ends with what was said so far.
                stream.end(self._made(request, partial, "cancelled"))
                filling.cancel()

        def ended(done: Future[None]) -> None:
            if done.cancelled():  # by the engine's end, or before it began
                stream.end(EngineClosedError(_CLOSED))

        stream = Stream(cancel)
        filling = self._endpoint.start(self._fill(request, stream, partial))
        filling.add_done_callback(ended)
        return stream

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def _check(self, request: Request) -> None:
        prompt = request.prompt
        goes_on = not isinstance(prompt, str) and prompt[-1]["role"] == "assistant"
        more = {"continue a conversation's last answer; give it the rendered text": goes_on}
        guided = request.guidance if request.guidance and request.guidance.guided else None
        plain = replace(request, guidance=guided, tools=(), response_format=None)  # these are passed on
        check_plain(plain, f"{self._place}: an endpoint", self.models, more)

    def _answer(self, request: Request) -> Answer:
        for attempt in range(_MALFORMED_TRIES):
            try:
                try:
                    response = json.loads(self._endpoint.start(self._send(request)).result())
                except CancelledError:
                    raise EngineClosedError(_CLOSED) from None
                partial = PartialAnswer(request.stop)
                partial.add(response)
                if not response["choices"]:
                    raise ValueError("no choices")
                return self._made(request, partial, partial.finish)
            except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
                # Something else than the API's JSON, from a proxy that gave up, say.
                time.sleep(2**attempt * random.uniform(0.2, 0.4))
        raise UnansweredError(f"{self._place}: answers with something else than the API's JSON")

    async def _send(self, request: Request, **streaming: Any) -> Any:
        prompt: dict[str, Any]
        if isinstance(request.prompt, str):
            path, prompt = "/completions", {"prompt": request.prompt}
        else:
            path, prompt = "/chat/completions", {"messages": with_sentence(request.prompt, _sentence(request))}
        model = request.adapter if request.adapter and request.adapter in self.models else self.model
        asked_for, parameters = wanted(request) | streaming, self._parameters[model]
        while True:
            sent = parameters.sent(asked_for)
            body = {"model": model, **prompt, **{new: asked_for[name] for name, new in sent.items() if new}}
            try:
                return await self._endpoint.post(path, body, streamed=bool(streaming))
            except TimeoutError:
                raise self._late() from None
            except ConnectionError as error:
                raise UnansweredError(f"{self._place}: {error}") from None
            except RefusedError as error:
                # It reads the whole prompt, while other answers wait for the loop.
                message = await asyncio.to_thread(quotable_message, error, request, self._key)
                change = parameters.adapt(error, message, sent, request)
                if change is None:
                    raise to_endpoint_error(error, message, self._place, self._key_env) from None
                # Streams are a server's: its log holds no word of an upstream, which may quote a prompt.
                quoted = "" if streaming else f" (it says: {message})"
                if change:
                    of = "" if model == self.model else f" for {model}"
                    self._warn_once(
                        f"{change}{of}", f"{change}{of} from now on, because the endpoint refuses it{quoted}"
                    )

    def _warn_once(self, key: str, text: str) -> None:
        """Log a warning once."""
        with self._lock:
            if key in self._warned:
                return
            self._warned.add(key)
        _LOG.warning("%s: %s", self._place, text)

    def _late(self) -> UnansweredError:
        return UnansweredError(f"{self._place}: no answer in {self._timeout:g} s", 504)

    async def _fill(self, request: Request, stream: Stream, partial: PartialAnswer) -> None:
        try:
            async with await self._send(request, stream=True, stream_options={"include_usage": True}) as opened:
                received, reader = opened.content.iter_any(), EventReader()
                async for block in received:
                    try:
                        _read(reader.feed(block), partial)
                    finally:  # what came before a bad event is sent, too
                        if text := partial.ready():
                            stream.put(Piece(text, []))
                    if partial.ended:
                        break
                if partial.finish is None:
                    raise UnansweredError(f"{self._place}: the answer broke off")
                partial.ended = True
                stream.end(self._made(request, partial, partial.finish))
                if not partial.stopped:
                    async with asyncio.timeout(_REST):
                        async for _ in received:
                            pass
        except Exception as error:  # the reader of the stream has to be woken, whatever it is
            late = isinstance(error, TimeoutError)
            how, status = (f"stopped for {self._timeout:g} s", 504) if late else ("broke off", 502)
            broken = UnansweredError(f"{self._place}: the answer {how}", status)
            failed = error if isinstance(error, NescioError) else broken
            if isinstance(failed, EndpointError) and partial.text:
                failed.so_far = self._made(request, partial, "cancelled")
            stream.end(failed)

    def _made(self, request: Request, partial: PartialAnswer, finish: str | None) -> Answer:
        text, usage, calls = partial.text, partial.usage, partial.tool_calls
        finish = finish if finish in ("length", "cancelled", "content_filter") else "stop"
        prompt_tokens, answer_tokens = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if not prompt_tokens or answer_tokens is None:  # the endpoint does not count them
            self._warn_once("usage", "the endpoint does not count tokens; they are estimated, 4 bytes each")
            prompt = request.prompt
            turns = [prompt] if isinstance(prompt, str) else [f"{turn['role']}: {turn['content']}\n" for turn in prompt]
            prompt_tokens = prompt_tokens or sum(map(_estimate, turns))
            if answer_tokens is None:
                answer_tokens = request.max_tokens if finish == "length" else _estimate(text)
        return Answer(text, [], finish, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens, calls=calls)


def _sentence(request: Request) -> str | None:
    """Return the sentence of the positive branch, the only one there is: the paper's where the guidance names none."""
    if request.guidance is None:
        return None
    return PROTECT if request.guidance.positive is None else request.guidance.positive


def _read(events: Iterable[str], partial: PartialAnswer) -> None:
    """Add events to an answer, up to its end.

    Raises:
        AttributeError, TypeError, ValueError: An event is not what OpenAI's API answers.
    """
    for event in events:
        if event.startswith("[DONE]"):
            partial.ended = True
        else:
            partial.add(json.loads(event))
            partial.ended = partial.stopped
        if partial.ended:
            return


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def _estimate(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


@ENGINES.register("openai")
@endpoint
def _open(model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> OpenAIEngine:
    """Open an endpoint; options are the keyword arguments of `OpenAIEngine`."""
    check_options("openai", OpenAIEngine.__init__, options)
    return OpenAIEngine(model, **options)
