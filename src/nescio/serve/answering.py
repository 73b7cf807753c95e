"""Answers in progress: a thread for each choice reads the engine's stream, filters it, and passes it on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from nescio.core.errors import NescioError
from nescio.engines.base import Engine, EngineClosedError, Request, Stream, TooLongError
from nescio.serve.admission import Admitted
from nescio.serve.errors import ApiError, engine_down
from nescio.serve.openai_api.part import Part
from nescio.serve.openai_api.response_bodies import Usage
from nescio.serve.output_filter import FilterError, OutputFilter

_LOG = logging.getLogger("nescio.serve")


class Answering:
    """All choices of one request. Create and use it in one event loop.

    Args:
        engine: Engine that answers.
        admitted: The engine requests.
        new_filter: Makes the output filter of a choice; None: no filter.

    Attributes:
        queued: The wait for rows, cancelled when the caller hangs up.
        abandoned: Whether the caller hung up.
    """

    def __init__(self, engine: Engine, admitted: Admitted, new_filter: Callable[[], OutputFilter] | None) -> None:
        self.queued: asyncio.Future[int] | None = None
        self.abandoned = False
        self._engine = engine
        self._requests = admitted.requests
        self._n = admitted.n
        self._fit = admitted.fit
        self._prompt_tokens = [0] * len(admitted.requests)
        self._answer_tokens = [0] * len(admitted.requests)
        self._new_filter = new_filter
        self._streams: list[Stream] = []
        self._expired = False
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Part | ApiError] = asyncio.Queue()
        self._started: asyncio.Queue[ApiError | None] = asyncio.Queue()

    async def run(self, threads: Executor) -> None:
        """Answer all choices, each in a thread; return when the engine has finished the last one."""
        answers = (
            self._loop.run_in_executor(threads, self._answer, index, request)
            for index, request in enumerate(self._requests)
        )
        await asyncio.gather(*answers)

    @property
    def usage(self) -> Usage:
        """Tokens so far. A prompt counts once, however many choices it has, and when they have ended."""
        prompt, answers = sum(self._prompt_tokens[:: self._n]), sum(self._answer_tokens)
        return Usage(prompt_tokens=prompt, completion_tokens=answers, total_tokens=prompt + answers)

    def refuse(self, error: ApiError) -> None:
        """Report that the request will not run."""
        self._started.put_nowait(error)

    async def started(self) -> None:
        """Wait until the engine has accepted all choices.

        Raises:
            ApiError: One of them can't be served.
        """
        for _ in self._requests:
            if (error := await self._started.get()) is not None:
                raise error

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the parts that may be sent, until every choice has finished.

        Raises:
            ApiError: The engine or the output filter failed. Nothing further may be sent.
        """
        left = len(self._requests)
        while left:
            part = await self._parts.get()
            if isinstance(part, ApiError):
                raise part
            left -= part.finish is not None
            yield part

    def expire(self) -> None:
        """Cut all choices because the time is over; the text so far is still sent."""
        self._expired = True
        for stream in self._streams:
            stream.cancel()

    def abandon(self) -> None:
        """Leave the queue, or end all choices and free their rows, because the caller hung up. Idempotent."""
        self.abandoned = True
        if self.queued is not None:
            self.queued.cancel()
        self.expire()

    # -- in the thread of a choice ------------------------------------------------------------------------------------

    def _answer(self, index: int, request: Request) -> None:
        # 4) submit to the engine; the context may be too short, and then the cache
        try:
            stream = self._submitted(request)
        except EngineClosedError as error:
            self._send(self._started, _engine_failed(error))
            return
        except NescioError as error:
            code = "context_length_exceeded" if isinstance(error, TooLongError) else "invalid_value"
            self._send(self._started, ApiError(400, str(error), code))
            return
        except Exception as error:  # the caller must hear of any error
            self._send(self._started, _engine_failed(error))
            return
        self._streams.append(stream)
        if self._expired:  # while it was submitted
            stream.cancel()
        self._send(self._started, None)
        # 5) and 6) filter what the engine's thread computes, and send it to the event loop
        try:
            self._send(self._parts, self._filtered(index, stream))
        except FilterError as error:
            cause = error.__cause__  # only nescio's own errors are known to quote no answer
            _LOG.error("audit: %s (%s)", error, cause if isinstance(cause, NescioError) else type(cause).__name__)
            message = "the answer could not be checked and is withheld; try again"
            self._send(self._parts, ApiError(503, message, "audit_failed"))
        except Exception as error:
            self._send(self._parts, _engine_failed(error))
        finally:
            stream.cancel()

    def _submitted(self, request: Request) -> Stream:
        while True:
            try:
                return self._engine.submit(request)
            except TooLongError as error:
                if not (self._fit and 0 < error.tokens_left < request.max_tokens):
                    raise
                request = replace(request, max_tokens=error.tokens_left)

    def _filtered(self, index: int, stream: Stream) -> Part:
        """Send the pieces of a stream through the output filter; return the last part of the choice."""
        output_filter = self._new_filter() if self._new_filter else None
        for piece in stream:
            self._answer_tokens[index] += len(piece.token_ids)
            if output_filter is None:
                self._send(self._parts, Part(index, piece.text, logprobs=piece.logprobs))
                continue
            for checked in output_filter.feed(piece.text):
                self._send(self._parts, Part(index, checked.text, checked.spans))
            if output_filter.blocked:
                stream.cancel()
        answer = stream.answer
        self._prompt_tokens[index], self._answer_tokens[index] = answer.prompt_tokens, len(answer.token_ids)
        for checked in output_filter.finish() if output_filter and not self.abandoned else ():
            self._send(self._parts, Part(index, checked.text, checked.spans))
        if output_filter is not None and output_filter.blocked:
            return Part(index, finish="content_filter")
        return Part(index, finish="stop" if answer.finish == "stop" else "length")

    def _send(self, queue: asyncio.Queue[Any], item: Part | ApiError | None) -> None:
        self._loop.call_soon_threadsafe(queue.put_nowait, item)


def _engine_failed(error: Exception) -> ApiError:
    # Only nescio's own errors are known to quote no prompt.
    _LOG.error("engine: %s", error if isinstance(error, NescioError) else type(error).__name__)
    if isinstance(error, EngineClosedError):
        return engine_down()
    return ApiError(500, "the engine failed; try again", "engine_error")
