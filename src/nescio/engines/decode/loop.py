"""The decoding loop: requests come and go at any step, both branches of a guided one in the same batch.

Knows token ids, guidance and rows; nothing of texts or of the model. A thread of its own runs while there is work.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.guide import guide
from nescio.engines.base import EngineClosedError, Request, close_at_exit
from nescio.engines.decode.batch import Row, Rows
from nescio.engines.decode.kv_slots import columns
from nescio.engines.decode.prefill import Prefill
from nescio.engines.decode.prefix_cache import Prefixes
from nescio.engines.decode.sampling import choose


@dataclass(slots=True, eq=False)
class Work:
    """A request in token ids.

    Attributes:
        request: Guidance, sampling and the most tokens.
        rows: The positive branch, and the negative one where guidance needs it.
        take: Called with each token and its log-probabilities `[vocab]`; whether the answer goes on.
        cancelled: Asked before each step.
        fail: Called with what went wrong, instead of further tokens.
    """

    request: Request
    rows: list[Row]
    take: Callable[[int, Tensor], bool]
    cancelled: Callable[[], bool]
    fail: Callable[[NescioError], None]
    prompts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompts = [len(row.ids) for row in self.rows]

    @property
    def longest(self) -> int:
        """Tokens of the longer branch at the request's end."""
        return max(self.prompts) + self.request.max_tokens


class Loop:
    """Decodes.

    Args:
        rows: Computes the batch.
        max_rows: Most rows in one forward. With 1, the branches of a guided request are computed one after the other.
        prefix_tokens: Most tokens of prompts kept for requests to come.
    """

    def __init__(self, rows: Rows, max_rows: int, prefix_tokens: int) -> None:
        self.rows = rows
        self.prefixes = Prefixes(prefix_tokens)
        self.closed = False
        self._prefill = Prefill(rows, self.prefixes, max_rows)
        self._max_rows = max_rows
        self._waiting: deque[Work] = deque()
        self._live: list[Work] = []
        self._slots: list[Row] = []  # the row in each slot
        self._retired: set[int] = set()
        self._state = threading.Lock()  # guards what is waiting, the thread and `closed`
        self._turn = threading.RLock()  # held for a step, and by whoever needs the model between steps
        self._thread: threading.Thread | None = None  # the latest; it ends when there is no more work
        self._is_running = False
        close_at_exit(self)

    def room(self, work: Work) -> int:
        """How many new tokens a request could have, were it alone; below 1 it can never be served."""
        return self.rows.most_tokens(len(work.rows), self.rows.slots.most) - max(work.prompts)

    def submit(self, work: Work) -> None:
        """Queue a request; from any thread.

        Raises:
            EngineClosedError: The loop is closed.
        """
        with self._state:
            if self.closed:
                raise EngineClosedError("the engine is closed; load it again")
            self._waiting.append(work)
            if not self._is_running:
                self._is_running = True
                self._thread = threading.Thread(target=self._run, name="nescio-decode", daemon=True)
                self._thread.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold the model between two steps."""
        with self._turn:
            yield

    def retire(self, adapter: int) -> None:
        """Drop an adapter as soon as no request on its way uses it."""
        with self._turn:
            self._retired.add(adapter)
            self._drop_retired()

    def close(self) -> None:
        """Fail what is left and end the thread."""
        with self._state:
            self.closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._state:
                if self.closed or not (self._waiting or self._live):
                    left = [*self._live, *self._waiting] if self.closed else []
                    self._waiting.clear()
                    self._is_running = False
                    break
            try:
                with self._turn, torch.inference_mode():
                    self._step()
            except Exception as error:  # whatever the model raises is told to who waits for it
                self._fail(NescioError(f"decoding failed ({type(error).__name__}: {error})"))
        if left:  # only a closed loop leaves any; else another thread may have begun already
            self._live, self._slots = [], []
        for work in left:
            work.fail(EngineClosedError("the engine was closed before the answer was complete"))

    def _fail(self, error: NescioError) -> None:
        failed, self._live, self._slots = self._live, [], []
        for work in failed:
            work.fail(error)

    def _step(self) -> None:
        self._leave([work for work in self._live if work.cancelled()])
        running = list(self._live)
        new = self._admitted()
        logits = {id(row): out for row, out in self._computed(self._slots[: sum(len(w.rows) for w in running)])}
        logits |= self._prefill(self._slots, len(self._slots) - sum(len(work.rows) for work in new))
        if self._live:
            self._leave([work for work, going in self._chosen(logits) if not going])
        self._drop_retired()

    def _computed(self, rows: list[Row]) -> Iterator[tuple[Row, Tensor]]:
        for first in range(0, len(rows), self._max_rows):
            part = rows[first : first + self._max_rows]
            yield from zip(part, self.rows.extend(first, part, 1), strict=True)

    # -- coming and going ---------------------------------------------------------------------------------------------

    def _room(self, works: list[Work]) -> bool:
        rows = self.rows.padded(sum(len(work.rows) for work in works))
        return rows * columns(max(work.longest for work in works)) <= self.rows.slots.most

    def _admitted(self) -> list[Work]:
        """Requests that come in now, in the order in which they were asked for."""
        new: list[Work] = []
        with self._state:
            while self._waiting:
                work = self._waiting[0]
                taken = sum(len(w.rows) for w in self._live)
                if self._live and (taken + len(work.rows) > self._max_rows or not self._room([*self._live, work])):
                    break
                self._waiting.popleft()
                self._live.append(work)
                new.append(work)
        if new:
            # Neighbours of one length waste the least when their prompts are computed together.
            self._slots += sorted((row for work in new for row in work.rows), key=lambda row: -len(row.ids))
            wide = columns(max(work.longest for work in self._live))
            self.rows.slots.reserve(self.rows.padded(len(self._slots)), wide)
        return new

    def _leave(self, works: list[Work]) -> None:
        """Free the slots of requests; the last rows move into the holes."""
        for row in [row for work in works for row in work.rows]:
            hole, last = self._slots.index(row), len(self._slots) - 1
            if hole != last and self.rows.cached:
                self.rows.slots.copy(last, hole, self._slots[last].held)
            self._slots[hole] = self._slots[last]
            self._slots.pop()
        self._live = [work for work in self._live if work not in works]

    def _drop_retired(self) -> None:
        with self._state:
            used = {row.adapter for work in [*self._live, *self._waiting] for row in work.rows}
        for adapter in [adapter for adapter in self._retired if adapter not in used]:
            self.rows.adapters.drop(adapter)
            self._retired.discard(adapter)

    # -- tokens -------------------------------------------------------------------------------------------------------

    def _chosen(self, logits: dict[int, Tensor]) -> Iterator[tuple[Work, bool]]:
        """Choose a token for each request; whether each goes on."""
        for works, log_probs in self._distributions(logits):
            most = log_probs.amax(-1)  # NaN where a row has one
            positions = [len(work.rows[0].ids) - work.prompts[0] for work in works]
            tokens = choose(log_probs, [work.request for work in works], positions)
            for work, row, top, token in zip(works, log_probs, most.tolist(), tokens.tolist(), strict=True):
                going = False
                try:
                    if math.isnan(top):
                        raise ArithmeticError("NaN in the model's logits")
                    going = _next_token(work, row, token)
                except Exception as error:  # this request's own; its neighbours go on
                    work.fail(NescioError(f"no token could be chosen ({type(error).__name__}: {error})"))
                yield work, going

    def _distributions(self, logits: dict[int, Tensor]) -> Iterator[tuple[list[Work], Tensor]]:
        """The log-probabilities `[requests, vocab]` of the unguided requests, and of the guided ones."""
        plain = [work for work in self._live if len(work.rows) == 1]
        guided = [work for work in self._live if len(work.rows) > 1]
        if plain:
            yield plain, torch.stack([logits[id(work.rows[0])] for work in plain]).float().log_softmax(-1)
        if guided:
            how = [work.request.guidance or Guidance() for work in guided]
            yield (
                guided,
                guide(
                    torch.stack([logits[id(work.rows[0])] for work in guided]),
                    torch.stack([logits[id(work.rows[1])] for work in guided]),
                    how,
                ),
            )


def _next_token(work: Work, log_probs: Tensor, token: int) -> bool:
    """Hand a request its token; whether the request goes on."""
    going = work.take(token, log_probs)
    for branch in work.rows:
        branch.ids.append(token)
    return going
