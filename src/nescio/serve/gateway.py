"""The gateway: takes admitted requests through the limits and the queue to the engine.

A request's path and its threads:

1. `app`, event loop: HTTP body and caller.
2. `admission`, event loop: body to engine requests, within the policy.
3. `gateway` and `limits`, event loop: the policy's rates, then the queue for rows of the batch.
   Where the policy audits requests, `request_filter` checks them then, in a thread.
4. `answering`, event loop: submits each choice, in a thread, to the engine, whose own thread computes the tokens.
5. `answer_filter`: checks text and calls of tools for personal data, by `output_filter` and `json_filter`; then
   `put_back`. What takes long, as the detector does, in a thread.
6. `answering`, event loop: parts of the answer.
7. `app` and `openai_api`, event loop: JSON bodies or server-sent events.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from nescio.engines.base import Engine
from nescio.pii.base import Detector
from nescio.serve.admission import Admitted
from nescio.serve.answering import Answering
from nescio.serve.audit import Audit
from nescio.serve.checker import Checker
from nescio.serve.errors import ApiError, engine_down
from nescio.serve.failures import to_api_error
from nescio.serve.limits import Meter, RowGate
from nescio.serve.metrics import Metrics
from nescio.serve.policy import Caller, Policies
from nescio.serve.request_filter import RequestFilter
from nescio.serve.served import Served

_CLOSING = 10.0  # most seconds that requests get to end when the server stops


class Gateway:
    """State of a running server.

    Args:
        engine: Engine that answers.
        served: Models that callers may name.
        policies: Policies of all callers; a reload replaces them.
        detector: Detector of the output filter; a reload may replace it.
        rows: Rows of the engine's batch.
        queue: Most rows that may wait for the batch.
    """

    def __init__(
        self, *, engine: Engine, served: Served, policies: Policies, detector: Detector, rows: int, queue: int
    ) -> None:
        self.engine = engine
        self.served = served
        self.policies = policies
        self.detector = detector
        self.gate = RowGate(rows, queue)
        self.meter = Meter()
        self.metrics = Metrics(self.gate, lambda: getattr(engine, "replays", 0))  # only vLLM's engine has any
        self._threads = ThreadPoolExecutor(rows, thread_name_prefix="answer")
        self._running: dict[asyncio.Task[None], Answering] = {}
        self._closing = False

    def check_open(self) -> None:
        """Check that the server takes new requests.

        Raises:
            ApiError: The server is stopping, or its engine is closed.
        """
        if self._closing:
            raise ApiError(503, "the server is stopping; try again", "stopping", retry_after=5)
        if self.engine.closed:
            raise engine_down()

    def open(self, caller: Caller, admitted: Admitted, marked: bool) -> Answering:
        """Start to answer a request. The caller awaits `started`, then takes the parts or abandons them.

        Args:
            caller: Its policy sets the limits and the output filter.
            admitted: The engine requests.
            marked: Find and mark personal data even if the policy's audit is off.
        """
        audit, outgoing = caller.policy.audit, caller.policy.audit_requests
        audit = Audit(default="count") if marked and audit.off else audit
        new_checker = None if audit.off else self._new_checker(audit)
        request_filter = None if outgoing.off else RequestFilter(self._new_checker(outgoing))
        answering = Answering(self.engine, self._threads, admitted, self.served, new_checker, request_filter)
        task = asyncio.create_task(self._run(caller, admitted, answering, request_filter))
        self._running[task] = answering
        task.add_done_callback(self._running.pop)
        return answering

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, and wait for the running ones for at most this time."""
        self._closing = True
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def close(self) -> None:
        """End the running requests, which get 10 s at most; close the threads and the engine.

        An engine or a detector that hangs may hold the process for longer.
        """
        self._closing = True
        for answering in list(self._running.values()):
            answering.abandon()
        if self._running:
            await asyncio.wait(self._running, timeout=_CLOSING)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.engine.close()

    def _new_checker(self, audit: Audit) -> Callable[..., Checker]:
        return partial(Checker, self.detector, audit, self.metrics.audit_seconds.observe)

    async def _run(
        self, caller: Caller, admitted: Admitted, answering: Answering, request_filter: RequestFilter | None
    ) -> None:
        try:
            # 3a) the policy's rates
            with self.meter.admit(caller, admitted.most_tokens) as ticket:
                # 3b) the queue for rows
                start = time.perf_counter()
                rows = await self._rows(admitted.rows, caller.policy.limits.seconds, answering)
                left = caller.policy.limits.seconds - (time.perf_counter() - start)
                timer = asyncio.get_running_loop().call_later(left, answering.expire)
                held = time.perf_counter()
                try:
                    # 4) to 6) the engine and the filters; parts come to `answering.parts`
                    await answering.run(rows)
                finally:
                    timer.cancel()
                    self.gate.release(rows, time.perf_counter() - held)
                    usage = answering.usage
                    ticket.tokens = usage.total_tokens
                    self.metrics.tokens.labels(caller.name, "prompt").inc(usage.prompt_tokens)
                    self.metrics.tokens.labels(caller.name, "answer").inc(usage.completion_tokens)
                    for kind, label, _ in request_filter.found if request_filter else ():
                        self.metrics.sent_personal.labels(caller.name, kind, label).inc()
        except Exception as error:  # the caller must hear of any error; asyncio would log its text
            answering.refuse(to_api_error(error))

    async def _rows(self, rows: int, seconds: float, answering: Answering) -> int:
        """Wait for rows of the batch.

        Raises:
            ApiError: The queue is full, the time is over, or the caller hung up.
        """
        if self.gate.has_room(rows):
            return await self.gate.acquire(rows)
        queued = answering.queued = asyncio.ensure_future(self.gate.acquire(rows))
        try:
            return await asyncio.wait_for(queued, seconds)
        except (TimeoutError, asyncio.CancelledError) as error:
            # From Python 3.12 on, `wait_for` drops rows that come in the same moment as its end.
            if queued.done() and not queued.cancelled() and queued.exception() is None:
                self.gate.release(queued.result())
            if isinstance(error, TimeoutError):
                message = f"no row came free in the {seconds:g} seconds that this key's policy allows; try again later"
                raise ApiError(429, message, "queue_timeout", retry_after=self.gate.expected_wait()) from None
            if answering.abandoned:
                raise ApiError(499, "the caller hung up", "hung_up") from None
            raise
