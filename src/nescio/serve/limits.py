"""Limits on load: the rows of the batch and its queue, and each policy's rates."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nescio.serve.errors import ApiError
from nescio.serve.policy import Caller, Limits

_SMOOTHING = 0.2  # weight of the newest answer in the mean time that a row is held


class RowGate:
    """Gives out the rows of the engine's batch, first come, first served, with a bounded queue. Not thread-safe.

    Args:
        rows: Rows of the batch.
        queue: Most rows that may wait.
    """

    def __init__(self, rows: int, queue: int) -> None:
        self.rows = rows
        self.held = 0
        self.waiting = 0
        self._queue = queue
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._seconds = 1.0

    def has_room(self, rows: int) -> bool:
        """Return whether `acquire` would give these rows at once."""
        return not self._line and self.held + min(rows, self.rows) <= self.rows

    async def acquire(self, rows: int) -> int:
        """Take rows; wait in the queue until they are free.

        Returns:
            The number taken: at most the whole batch. The engine queues a request that needs more.

        Raises:
            ApiError: The queue is full (429).
        """
        rows = min(rows, self.rows)
        if self.has_room(rows):
            self.held += rows
            return rows
        if self.waiting + rows > self._queue:
            raise ApiError(429, "the server is busy; try again later", "queue_full", retry_after=self.expected_wait())
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((rows, place))
        self.waiting += rows
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # the rows were granted just as the caller hung up
                self.release(rows)
            else:
                self._admit()
            raise
        return rows

    def release(self, rows: int, seconds: float | None = None) -> None:
        """Return rows. `seconds`, how long an answer held them, updates the estimated wait."""
        if seconds is not None:
            self._seconds += _SMOOTHING * (seconds - self._seconds)
        self.held -= rows
        self._admit()

    def expected_wait(self) -> float:
        """Estimate the seconds until a new request would get a row, from how long rows were held lately."""
        return self._seconds * (1 + self.waiting / self.rows)

    def _admit(self) -> None:
        # A caller who hung up is still in line if the others are let in before its own task runs.
        self._line = deque((rows, place) for rows, place in self._line if not place.cancelled())
        self.waiting = sum(rows for rows, _ in self._line)
        while self._line and self.held + self._line[0][0] <= self.rows:
            rows, place = self._line.popleft()
            self.waiting -= rows
            self.held += rows
            place.set_result(None)


class Bucket:
    """A token bucket that holds one minute's amount and fills evenly.

    Args:
        per_minute: Amount for each minute.
        clock: Returns seconds of a monotonic clock.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._then = clock()

    def wait(self, amount: float) -> float:
        """Return the seconds until this amount is available."""
        now = self._clock()
        self._level = min(self.per_minute, self._level + (now - self._then) * self.per_minute / 60)
        self._then = now
        return max(0.0, (amount - self._level) * 60 / self.per_minute)

    def take(self, amount: float) -> None:
        """Take an amount; a negative one is returned. The level may fall below 0, which later requests wait for."""
        self._level -= amount


@dataclass(slots=True)
class _Use:
    """Current use of one policy, all its callers together."""

    running: int = 0
    requests: Bucket | None = None
    tokens: Bucket | None = None


@dataclass(slots=True)
class Meter:
    """Current use of every policy; it survives a reload of the policies."""

    _uses: dict[str, _Use] = field(default_factory=dict)

    @contextmanager
    def admit(self, caller: Caller, most_tokens: int) -> Iterator["Ticket"]:
        """Admit one request for the duration of the `with` block.

        Args:
            caller: Its policy sets the limits.
            most_tokens: Most new tokens of the request; the ticket then holds the number really used.

        Raises:
            ApiError: A limit is reached (429); the message says which, and when to try again.
        """
        limits = caller.policy.limits
        use = self._use(caller.name, limits)
        if limits.concurrency is not None and use.running >= limits.concurrency:
            raise _too_many(f"{limits.concurrency} requests at a time", "concurrency_limit", 1.0)
        if use.requests is not None and (wait := use.requests.wait(1)) > 0:
            raise _too_many(f"{limits.requests_per_minute} requests a minute", "rate_limit", wait)
        if use.tokens is not None and (wait := use.tokens.wait(most_tokens)) > 0:
            raise _too_many(f"{limits.tokens_per_minute} tokens a minute", "token_limit", wait)
        if use.requests is not None:
            use.requests.take(1)
        if use.tokens is not None:
            use.tokens.take(most_tokens)
        ticket = Ticket()
        use.running += 1
        try:
            yield ticket
        finally:
            use.running -= 1
            if use.tokens is not None:
                use.tokens.take(ticket.tokens - most_tokens)

    def _use(self, name: str, limits: Limits) -> _Use:
        use = self._uses.setdefault(name, _Use())
        use.requests = _bucket(use.requests, limits.requests_per_minute)
        use.tokens = _bucket(use.tokens, limits.tokens_per_minute)
        return use


@dataclass(slots=True)
class Ticket:
    """One admitted request; `tokens` is the number it used, in prompts and answers."""

    tokens: int = 0


def _bucket(bucket: Bucket | None, per_minute: int | None) -> Bucket | None:
    if per_minute is None:
        return None
    return bucket if bucket is not None and bucket.per_minute == per_minute else Bucket(per_minute)


def _too_many(limit: str, code: str, wait: float) -> ApiError:
    return ApiError(429, f"this key's policy allows {limit}; try again later", code, retry_after=wait)
