"""A running server without its HTTP: it lets requests in, has them answered, and counts. Knows policies and engines."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from nescio.engines.base import Engine
from nescio.pii.base import Detector
from nescio.serve.admission import Admitted, Served
from nescio.serve.answering import Answering
from nescio.serve.errors import ApiError, engine_down
from nescio.serve.limits import Meter, RowGate
from nescio.serve.metrics import Metrics
from nescio.serve.output_filter import Audit
from nescio.serve.policy import AuditMode, Caller, Policies

_LOG = logging.getLogger("nescio.serve")


class Serving:
    """What a server holds while it runs.

    Args:
        engine: Who answers.
        served: What callers may name.
        policies: Who may do what; replaced whole by a reload.
        detector: Of the audits; replaced with the policies.
        rows: Rows of the engine's batch.
        queue: Most rows that wait for a place in it.
    """

    def __init__(
        self, engine: Engine, served: Served, policies: Policies, detector: Detector, rows: int, queue: int
    ) -> None:
        self.engine = engine
        self.served = served
        self.policies = policies
        self.detector = detector
        self.gate = RowGate(rows, queue)
        self.meter = Meter()
        self.metrics = Metrics(self.gate, lambda: getattr(engine, "replays", 0))  # vLLM's engine alone has any
        # A thread whose answer was cancelled waits for the engine's next step while its row is given out again.
        self._threads = ThreadPoolExecutor(2 * rows, thread_name_prefix="answer")
        self._running: dict[asyncio.Task[None], Answering] = {}
        self._closing = False

    def check_open(self) -> None:
        """See that new requests are taken.

        Raises:
            ApiError: The server is stopping, or its engine is closed.
        """
        if self._closing:
            raise ApiError(503, "the server is stopping; try again", "stopping", retry_after=5)
        if self.engine.closed:
            raise engine_down()

    def open(self, caller: Caller, admitted: Admitted, marked: bool) -> Answering:
        """Start on a request; the caller waits for `started` and takes the parts, or abandons it.

        Args:
            caller: Whose limits and audit count.
            admitted: What is asked of the engine.
            marked: Find personal data even where the policy's audit is off, to mark it.
        """
        mode = caller.policy.audit
        new_audit = (
            partial(self._audit, self.detector, "count" if mode == "off" else mode) if marked or mode != "off" else None
        )
        answering = Answering(self.engine, admitted, new_audit)
        task = asyncio.create_task(self._run(caller, admitted, answering))
        self._running[task] = answering
        task.add_done_callback(self._running.pop)
        return answering

    async def drain(self, seconds: float) -> None:
        """Refuse what is new, and wait for what is running, but not longer than this."""
        self._closing = True
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def close(self) -> None:
        """End what is still running, and give back the threads and the engine."""
        self._closing = True
        for answering in list(self._running.values()):
            answering.abandon()
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.close()

    def _audit(self, detector: Detector, mode: AuditMode) -> Audit:
        return Audit(detector, mode, self.metrics.audit_seconds.observe)

    async def _run(self, caller: Caller, admitted: Admitted, answering: Answering) -> None:
        try:
            with self.meter.admit(caller, admitted.most_tokens) as ticket:
                start = time.perf_counter()
                rows = await self._rows(admitted.rows, caller.policy.limits.seconds, answering)
                left = caller.policy.limits.seconds - (time.perf_counter() - start)
                timer = asyncio.get_running_loop().call_later(left, answering.expire)
                held = time.perf_counter()
                try:
                    await answering.run(self._threads)
                finally:
                    timer.cancel()
                    self.gate.release(rows, time.perf_counter() - held)
                    usage = answering.usage
                    ticket.tokens = usage.total_tokens
                    self.metrics.tokens.labels(caller.name, "prompt").inc(usage.prompt_tokens)
                    self.metrics.tokens.labels(caller.name, "answer").inc(usage.completion_tokens)
        except ApiError as error:
            answering.refuse(error)

    async def _rows(self, rows: int, seconds: float, answering: Answering) -> int:
        answering.queued = asyncio.ensure_future(self.gate.acquire(rows))
        try:
            return await asyncio.wait_for(answering.queued, seconds)
        except TimeoutError:
            said = f"no place came free in the {seconds:g} seconds that this key's policy allows; try again later"
            raise ApiError(429, said, "queue_timeout", retry_after=self.gate.expected_wait()) from None
        except asyncio.CancelledError:
            if answering.abandoned:
                raise ApiError(499, "the caller hung up", "hung_up") from None
            raise
