"""Answers in progress: each choice awaits the engine's stream, filters it, and passes it on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from nescio.core.errors import NescioError
from nescio.engines.answer_schema import forced_tools
from nescio.engines.base import (
    Answer,
    EndpointError,
    Engine,
    EngineClosedError,
    Piece,
    Request,
    Stream,
    TokenLogprob,
    TooLongError,
    UnansweredError,
)
from nescio.engines.errors import FieldError
from nescio.serve.admission import Admitted
from nescio.serve.answer_filter import filter_of, hidden_stops
from nescio.serve.call_reader import CallReader
from nescio.serve.checker import Checked, Checker
from nescio.serve.errors import ApiError
from nescio.serve.failures import to_api_error
from nescio.serve.openai_api.part import Call, Part, new_id
from nescio.serve.openai_api.response_bodies import Usage
from nescio.serve.request_filter import RequestFilter
from nescio.serve.served import Served
from nescio.serve.tool_formats.forced import Forced

_Result = TypeVar("_Result")


class Answering:
    """All choices of one request. Create and use it in one event loop.

    Args:
        engine: Engine that answers.
        threads: Where it is done what takes longer than the event loop may wait.
        admitted: The engine requests.
        served: The models; it says how theirs write calls of tools.
        new_checker: Makes what checks a choice, given the request's own stand-ins; None: nothing is checked.
        request_filter: Checks what the caller sends; None: it is sent as it is.

    Attributes:
        queued: The wait for rows, cancelled when the caller hangs up.
        abandoned: Whether the caller hung up.
    """

    def __init__(
        self,
        engine: Engine,
        threads: Executor,
        admitted: Admitted,
        served: Served,
        new_checker: Callable[..., Checker] | None,
        request_filter: RequestFilter | None = None,
    ) -> None:
        self.queued: asyncio.Future[int] | None = None
        self.abandoned = False
        self._engine = engine
        self._threads = threads
        self._requests = admitted.requests
        self._n = admitted.n
        self._rows_each = admitted.rows // len(admitted.requests)
        self._together = len(admitted.requests)  # choices that start at once
        self._has_started = False
        self._fit = admitted.fit
        self._prompt_field, self._length_field = admitted.prompt_field, admitted.length_field
        self._prompt_tokens = [0] * len(admitted.requests)
        self._answer_tokens = [0] * len(admitted.requests)
        self._served = served
        self._new_checker = new_checker
        self._request_filter = request_filter
        self._pieces: Mapping[str, str] = {}  # of the caller, by stand-in
        self._streams: list[Stream] = []
        self._expired = False
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Part | ApiError] = asyncio.Queue()
        self._started: asyncio.Queue[ApiError | None] = asyncio.Queue()

    async def run(self, rows: int) -> None:
        """Answer all choices; return when the engine has finished the last one.

        Args:
            rows: Most choices at a time.

        Raises:
            ApiError: The request must not be sent.
            FilterError: It could not be checked.
        """
        if self._request_filter is not None:
            check = self._request_filter.changed
            self._requests = await self._done(True, check, self._requests, lambda: self._expired)
            self._pieces = self._request_filter.pieces
        self._together = min(self._together, max(1, rows // self._rows_each))
        places = asyncio.Semaphore(rows)
        await asyncio.gather(*(self._answer(index, request, places) for index, request in enumerate(self._requests)))

    @property
    def usage(self) -> Usage:
        """Tokens so far. A prompt counts once, however many choices it has, and when they have ended."""
        prompt, answers = sum(self._prompt_tokens[:: self._n]), sum(self._answer_tokens)
        return Usage(prompt_tokens=prompt, completion_tokens=answers, total_tokens=prompt + answers)

    def refuse(self, error: ApiError) -> None:
        """Report that the request will not run, or not to its end."""
        (self._parts if self._has_started else self._started).put_nowait(error)

    async def started(self) -> None:
        """Wait until the engine has begun as many choices as the rows hold; the others begin as these end.

        Raises:
            ApiError: One of them can't be served.
        """
        begun = 0
        while begun < self._together or not self._started.empty():
            if (error := await self._started.get()) is not None:
                raise error
            begun += 1
        self._has_started = True

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

    async def _answer(self, index: int, request: Request, places: asyncio.Semaphore) -> None:
        has_begun = False
        async with places:
            stream = None
            try:
                # 4) submit to the engine; what fails before the first token gets an HTTP status of its own
                checker = self._new_checker(own=self._pieces) if self._new_checker else None
                asked = replace(request, stop=()) if hidden_stops(request, checker) else request
                reads_prompt = self._served.guides  # an upstream only has to be called
                stream = await self._done(reads_prompt, self._submitted, asked)
                self._streams.append(stream)
                if self._expired:  # while it was submitted
                    stream.cancel()
                first = await stream.arrived()
                if not (first or self.abandoned or self._served.guides) and _is_silence(stream.answer):
                    raise UnansweredError("the upstream said nothing in the seconds of the policy", 504)
                has_begun = True
                self._started.put_nowait(None)
                # 5) and 6) filter what the engine's thread computes
                self._parts.put_nowait(await self._filtered(index, request, checker, stream, first))
            except Exception as error:  # the caller must hear of any error
                if isinstance(error, EndpointError) and (said := error.so_far):
                    self._prompt_tokens[index], self._answer_tokens[index] = said.prompt_tokens, said.tokens
                if has_begun:
                    self._parts.put_nowait(to_api_error(error))
                else:
                    self.refuse(to_api_error(error))
            finally:
                if stream is not None:
                    stream.cancel()

    async def _done(self, takes_long: bool, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Do work here, or in a thread if it takes longer than the event loop may wait."""
        if not takes_long:
            return work(*arguments)
        return await self._loop.run_in_executor(self._threads, work, *arguments)

    def _submitted(self, request: Request) -> Stream:
        """Submit a request; shorten the answer where the caller gave no length.

        Raises:
            ApiError: The request can never be served.
        """
        while True:
            try:
                return self._engine.submit(request)
            except EngineClosedError:
                raise
            except TooLongError as error:
                if not (self._fit and 0 < error.tokens_left < request.max_tokens):
                    # With a prompt of its own, the negative branch may be what is too long.
                    prompt_field = self._prompt_field if request.negative is None else None
                    param = prompt_field if error.tokens_left < 1 else self._length_field
                    raise ApiError(400, str(error), "context_length_exceeded", param) from error
                request = replace(request, max_tokens=error.tokens_left)
            except NescioError as error:
                param = error.field if isinstance(error, FieldError) else None
                raise ApiError(400, str(error), "invalid_value", param) from error

    async def _filtered(
        self, index: int, request: Request, checker: Checker | None, stream: Stream, pieces: list[Piece]
    ) -> Part:
        """Send an answer's text and calls of tools through the filters; return the last part of the choice."""
        filters = checker is not None or bool(self._pieces)
        answer_filter = await self._done(filters, filter_of, request, checker, self._pieces)
        reader = self._reader(request)

        async def feed(text: str, logprobs: list[TokenLogprob] | None = None) -> None:
            if not (self.abandoned or answer_filter.blocked or answer_filter.stopped):
                send(await self._done(answer_filter.takes_long(text), answer_filter.feed, text), logprobs)

        def send(checked: Iterable[Checked], logprobs: list[TokenLogprob] | None = None) -> None:
            for each in checked:
                self._parts.put_nowait(Part(index, each.text, each.spans, logprobs=logprobs))
            if answer_filter.blocked or answer_filter.stopped:
                stream.cancel()

        while pieces:
            # What has come goes on in one part, but for log-probabilities: each piece has its own, and no filter
            # changes it.
            for together in [pieces] if request.logprobs is None else [[piece] for piece in pieces]:
                text = "".join(each.text for each in together)
                self._answer_tokens[index] += sum(len(each.token_ids) for each in together)
                await feed(reader.feed(text) if reader else text, together[0].logprobs)
            pieces = await stream.arrived()
        answer = stream.answer
        self._prompt_tokens[index], self._answer_tokens[index] = answer.prompt_tokens, answer.tokens
        is_cut = answer.finish != "stop"
        rest, calls = reader.finish() if reader else ("", answer.calls)
        await feed(rest)
        if not self.abandoned:
            send(await self._done(filters, partial(answer_filter.finish, cut=is_cut)))
        if answer_filter.stopped:
            return Part(index, finish="stop")
        if answer_filter.blocked:
            return Part(index, finish="content_filter", withheld=answer_filter.withheld)
        for number, call in enumerate(calls if request.parallel_tool_calls else calls[:1]):
            if call.name not in _names(request):
                raise EndpointError("the upstream calls a tool that the request does not have")
            arguments = await self._done(True, partial(answer_filter.arguments, cut=is_cut), call.arguments)
            if arguments is None:
                return Part(index, finish="content_filter", withheld=answer_filter.withheld)
            checked_call = Call(number, new_id(), call.name, arguments.text, arguments.spans)
            self._parts.put_nowait(Part(index, calls=(checked_call,)))
        if is_cut:
            return Part(index, finish="content_filter" if answer.finish == "content_filter" else "length")
        return Part(index, finish="tool_calls" if calls else "stop")

    def _reader(self, request: Request) -> CallReader | None:
        """Return what tells calls from text; None: the request has no tools, or an upstream tells them itself."""
        form = Forced() if forced_tools(request) else self._served.tool_format
        return CallReader(form, _names(request)) if form and request.tools and self._served.guides else None


def _is_silence(answer: Answer) -> bool:
    """Whether an answer was ended before anything came of it."""
    return answer.finish == "cancelled" and not (answer.text or answer.calls)


def _names(request: Request) -> set[str]:
    return {tool["function"]["name"] for tool in request.tools}
