"""Answers from any OpenAI-compatible endpoint: OpenAI, Together, vLLM, Ollama, llama.cpp. Knows nothing of dialogs.

Text goes to the completion endpoint as it is, a conversation to the chat endpoint. The client backs off with jitter,
or for as long as the server asks, where a server is busy, broken, slow or cut off. The key is read from the
environment and stands in no message; neither do prompts and answers.
"""

import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.engines.base import (
    Answer,
    Engine,
    Piece,
    Progress,
    Request,
    Stream,
    UnansweredError,
)
from nescio.engines.registry import ENGINES, check_options

_MALFORMED_TRIES = 3
_NO_KEY = "none"  # what is sent where a server wants no key: the client insists on one


class OpenAIEngine(Engine):
    """An endpoint as an engine, without guidance, likelihoods and adapters.

    Args:
        model: The endpoint's name of the model.
        base_url: Of the API, up to `/v1`; None is OpenAI's own.
        key_env: Environment variable that holds the key; None: the server wants none.
        concurrency: Requests on their way at once in `generate`.
        timeout: Seconds to wait for an answer.
        retries: How often a request is sent again after 408, 409, 429, 5xx, a time-out or a cut connection.

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
    ) -> None:
        openai = require("openai", "openai", f"{model} behind an endpoint")
        key = _NO_KEY if key_env is None else os.environ.get(key_env)
        if not key:
            raise NescioError(
                f"{model}: {key_env} is not set; export it, or give key_env: null for a server without keys"
            )
        self.model, self.concurrency = model, concurrency
        self._openai, self._key_env, self._timeout = openai, key_env, timeout
        # Where no key is given none is sent: a server without keys may refuse one it does not know, as nescio's does.
        # The client wants a key all the same, and lets it be left out request by request only.
        self._headers = {"Authorization": openai.Omit()} if key_env is None else {}
        self._client: Any = openai.OpenAI(api_key=key, base_url=base_url, timeout=timeout, max_retries=retries)
        self._place = f"{model} at {self._client.base_url.host}"

    @property
    def closed(self) -> bool:
        """Whether its connections were closed."""
        return bool(self._client.is_closed())

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, in their order, some at once.

        Raises:
            UnansweredError: One got no answer, however often it was sent.
            NescioError: The key is refused, the model unknown, or a request asks for what an endpoint can't do.
        """
        for request in requests:
            self._check(request)
        with ThreadPoolExecutor(max(1, min(self.concurrency, len(requests)))) as pool:
            asked = [pool.submit(self._answer, request) for request in requests]
            try:
                for done, future in enumerate(as_completed(asked), start=1):
                    future.result()
                    if progress:
                        progress(done, len(asked))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [future.result() for future in asked]

    def submit(self, request: Request) -> Stream:
        """Start answering and return at once; from any thread."""
        self._check(request)
        stream = Stream()
        threading.Thread(target=self._fill, args=(request, stream), daemon=True).start()
        return stream

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _check(self, request: Request) -> None:
        prompt = request.prompt
        wrong = {
            "guide": request.guidance is not None,
            "attach adapters": request.adapter not in (None, "default"),
            "tell log-probabilities": request.logprobs is not None,
            "continue a conversation's last answer; give it the rendered text": not isinstance(prompt, str)
            and prompt[-1]["role"] == "assistant",
        }
        for what, asked in wrong.items():
            if asked:
                raise NescioError(f"{self._place}: an endpoint can't {what}")

    def _answer(self, request: Request) -> Answer:
        for attempt in range(_MALFORMED_TRIES):
            try:
                response = self._send(request)
                return _read(request, response)
            except (ValueError, AttributeError, TypeError, IndexError, self._openai.APIResponseValidationError):
                # Something else than the API's JSON, from a proxy that gave up, say.
                time.sleep(2**attempt * random.uniform(0.2, 0.4))
        raise UnansweredError(f"{self._place}: answers with something else than the API's JSON")

    def _send(self, request: Request, **streaming: Any) -> Any:
        options: dict[str, Any] = {
            "model": self.model, "max_tokens": request.max_tokens, "temperature": request.temperature,
            "top_p": request.top_p, "seed": request.seed, "extra_headers": self._headers, **streaming,
        }  # fmt: skip
        if request.stop:
            options["stop"] = list(request.stop)
        if request.top_k:
            options["extra_body"] = {"top_k": request.top_k}
        try:
            if isinstance(request.prompt, str):
                return self._client.completions.create(prompt=request.prompt, **options)
            return self._client.chat.completions.create(messages=request.prompt, **options)
        except self._openai.APIResponseValidationError:
            raise
        except self._openai.APIError as error:
            # What a server says may repeat the key or the prompt, so only its kind is told.
            raise self._told(error) from None

    def _told(self, error: Any) -> NescioError:
        """What a failure means: an error that ends the work, or one request's lack of an answer."""
        api = self._openai
        if isinstance(error, api.AuthenticationError | api.PermissionDeniedError):
            named = self._key_env
            mend = f"the key in {named} is refused; set a valid one" if named else "a key is wanted; give key_env"
            return NescioError(f"{self._place}: {mend}")
        if isinstance(error, api.NotFoundError):
            return NescioError(f"{self._place}: no such model or endpoint there; mend model or base_url")
        if getattr(error, "code", None) == "insufficient_quota":
            return NescioError(f"{self._place}: the account's quota is used up; top it up and run again")
        if isinstance(error, api.APITimeoutError):
            return UnansweredError(f"{self._place}: no answer in {self._timeout:g} s")
        if isinstance(error, api.APIStatusError):
            return UnansweredError(f"{self._place}: HTTP {error.status_code}")
        return UnansweredError(f"{self._place}: cannot be reached; is base_url right, and the server up?")

    def _fill(self, request: Request, stream: Stream) -> None:
        text, finish, usage = "", "stop", None
        try:
            with self._send(request, stream=True, stream_options={"include_usage": True}) as chunks:
                for chunk in chunks:
                    usage = chunk.usage or usage
                    if stream.cancelled.is_set():
                        finish = "cancelled"
                        break
                    for choice in chunk.choices:
                        finish = choice.finish_reason or finish
                        piece = _text(request, choice.delta if hasattr(choice, "delta") else choice)
                        text += piece
                        if piece:
                            stream.put(Piece(piece, []))
            stream.end(_made(text, finish, usage))
        except NescioError as error:
            stream.end(error)
        except Exception:  # whatever it is, who waits for the stream has to be told
            stream.end(UnansweredError(f"{self._place}: the answer broke off"))


def _read(request: Request, response: Any) -> Answer:
    choice = response.choices[0]
    text = _text(request, choice if isinstance(request.prompt, str) else choice.message)
    return _made(text, choice.finish_reason, response.usage)


def _text(request: Request, part: Any) -> str:
    return str((part.text if isinstance(request.prompt, str) else part.content) or "")


def _made(text: str, finish: str | None, usage: Any) -> Answer:
    finish = finish if finish in ("length", "cancelled") else "stop"
    if usage is None:
        return Answer(text, [], finish)
    return Answer(text, [], finish, prompt_tokens=usage.prompt_tokens, answer_tokens=usage.completion_tokens)


@ENGINES.register("openai")
def _open(model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> OpenAIEngine:
    """Open an endpoint; options are the keyword arguments of `OpenAIEngine`."""
    check_options("openai", OpenAIEngine.__init__, options)
    return OpenAIEngine(model, **options)
