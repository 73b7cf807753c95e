"""Answers on their way: the engine's blocking streams, audited, as one asynchronous one. Knows no HTTP and no policy.

Each choice has a thread that waits for its pieces, has them checked, and hands them to the event loop.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from nescio.core.errors import NescioError
from nescio.engines.base import Engine, EngineClosedError, Request, Stream, TokenLogprob, TooLongError
from nescio.pii.base import Span
from nescio.serve.admission import Admitted
from nescio.serve.errors import ApiError, engine_down
from nescio.serve.openai_api.response_bodies import Finish, Usage
from nescio.serve.output_filter import Audit, AuditError

_LOG = logging.getLogger("nescio.serve")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of one choice that may be sent; its last has a `finish`.

    Attributes:
        index: Of the choice.
        text: Checked where there is an audit.
        spans: Personal data in it, in characters of all that was sent of this choice.
        logprobs: Of its tokens, where asked for and not audited.
        finish: Why the choice ended.
    """

    index: int
    text: str = ""
    spans: tuple[Span, ...] = ()
    logprobs: list[TokenLogprob] | None = None
    finish: Finish | None = None


class Answering:
    """All choices of one request. Made, begun and listened to in one event loop.

    Args:
        engine: Who answers.
        admitted: What it is asked.
        new_audit: Makes the audit of a choice; None: not audited.

    Attributes:
        queued: The wait for rows, which ends when the caller hangs up.
        abandoned: Whether it has.
    """

    def __init__(self, engine: Engine, admitted: Admitted, new_audit: Callable[[], Audit] | None) -> None:
        self.queued: asyncio.Future[int] | None = None
        self.abandoned = False
        self._engine = engine
        self._requests = admitted.requests
        self._n = admitted.n
        self._fit = admitted.fit
        self._prompt_tokens = [0] * len(admitted.requests)
        self._answer_tokens = [0] * len(admitted.requests)
        self._new_audit = new_audit
        self._streams: list[Stream] = []
        self._expired = False
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Part | ApiError] = asyncio.Queue()
        self._started: asyncio.Queue[ApiError | None] = asyncio.Queue()

    async def run(self, threads: Executor) -> None:
        """Have all choices answered; ends when the engine is done with the last, whatever became of it."""
        answers = (
            self._loop.run_in_executor(threads, self._answer, index, request)
            for index, request in enumerate(self._requests)
        )
        await asyncio.gather(*answers)

    @property
    def usage(self) -> Usage:
        """Tokens so far; a prompt that has several choices counts once, and when its choices have ended."""
        prompt, answers = sum(self._prompt_tokens[:: self._n]), sum(self._answer_tokens)
        return Usage(prompt_tokens=prompt, completion_tokens=answers, total_tokens=prompt + answers)

    def refuse(self, error: ApiError) -> None:
        """It will not be run at all."""
        self._started.put_nowait(error)

    async def started(self) -> None:
        """Wait until the engine has taken all choices.

        Raises:
            ApiError: One of them can't be served.
        """
        for _ in self._requests:
            if (error := await self._started.get()) is not None:
                raise error

    async def parts(self) -> AsyncIterator[Part]:
        """What may be sent, as it comes, until every choice has finished.

        Raises:
            ApiError: The engine or the audit failed; what was not given yet must not be.
        """
        left = len(self._requests)
        while left:
            part = await self._parts.get()
            if isinstance(part, ApiError):
                raise part
            left -= part.finish is not None
            yield part

    def expire(self) -> None:
        """The time is up: end all choices where they are; what they have so far is still given."""
        self._expired = True
        for stream in self._streams:
            stream.cancel()

    def abandon(self) -> None:
        """Nobody waits any more: leave the queue, or end all choices and free their rows. Harmless after the end."""
        self.abandoned = True
        if self.queued is not None:
            self.queued.cancel()
        self.expire()

    # -- in the choice's thread ---------------------------------------------------------------------------------------

    def _answer(self, index: int, request: Request) -> None:
        try:
            stream = self._submitted(request)
        except EngineClosedError as error:
            self._tell(self._started, _engine_failed(error))
            return
        except NescioError as error:
            code = "context_length_exceeded" if isinstance(error, TooLongError) else "invalid_value"
            self._tell(self._started, ApiError(400, str(error), code))
            return
        except Exception as error:  # whatever it is, the caller waits for a word
            self._tell(self._started, _engine_failed(error))
            return
        self._streams.append(stream)
        if self._expired:  # in the meantime
            stream.cancel()
        self._tell(self._started, None)
        try:
            self._tell(self._parts, self._pump(index, stream))
        except AuditError as error:
            _LOG.error("audit: %s (%s)", error, type(error.__cause__).__name__)
            said = "the answer could not be checked and is withheld; try again"
            self._tell(self._parts, ApiError(503, said, "audit_failed"))
        except Exception as error:
            self._tell(self._parts, _engine_failed(error))
        finally:
            stream.cancel()

    def _submitted(self, request: Request) -> Stream:
        while True:  # the context may be short, and then the cache
            try:
                return self._engine.submit(request)
            except TooLongError as error:
                if not (self._fit and 0 < error.tokens_left < request.max_tokens):
                    raise
                request = replace(request, max_tokens=error.tokens_left)

    def _pump(self, index: int, stream: Stream) -> Part:
        """Pass pieces on as they come; gives the part that ends the choice."""
        audit = self._new_audit() if self._new_audit else None
        for piece in stream:
            self._answer_tokens[index] += len(piece.token_ids)
            if audit is None:
                self._tell(self._parts, Part(index, piece.text, logprobs=piece.logprobs))
                continue
            for checked in audit.feed(piece.text):
                self._tell(self._parts, Part(index, checked.text, checked.spans))
            if audit.blocked:
                stream.cancel()
        answer = stream.answer
        self._prompt_tokens[index], self._answer_tokens[index] = answer.prompt_tokens, len(answer.token_ids)
        for checked in audit.finish() if audit and not self.abandoned else ():
            self._tell(self._parts, Part(index, checked.text, checked.spans))
        blocked = audit is not None and audit.blocked
        return Part(index, finish="content_filter" if blocked else "stop" if answer.finish == "stop" else "length")

    def _tell(self, queue: asyncio.Queue[Any], what: Part | ApiError | None) -> None:
        self._loop.call_soon_threadsafe(queue.put_nowait, what)


def _engine_failed(error: Exception) -> ApiError:
    # Only nescio's own errors are known to quote no prompt.
    _LOG.error("engine: %s", error if isinstance(error, NescioError) else type(error).__name__)
    if isinstance(error, EngineClosedError):
        return engine_down()
    return ApiError(500, "the engine could not go on; try again", "engine_error")
