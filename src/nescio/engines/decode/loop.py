"""The decode loop: requests join and leave the batch at any step, both branches of a guided one in the same batch."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.guide import guide
from nescio.core.openmp import release_threads
from nescio.engines.base import BrokenError, EngineClosedError, Request
from nescio.engines.closing import DECODE_THREAD, close_at_exit
from nescio.engines.decode.batch import Batch, Row
from nescio.engines.decode.kv_slots import columns
from nescio.engines.decode.prefill import Prefill
from nescio.engines.decode.prefix_cache import PrefixCache
from nescio.engines.decode.sampling import bias_of, biased, choose
from nescio.engines.errors import FieldError


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """A request as token ids.

    Attributes:
        request: Its guidance, sampling and maximum number of tokens.
        rows: The positive branch, and the negative one if guidance needs it.
        take: Called with each token and its log-probabilities `[vocab]`; returns whether the answer goes on.
        allowed: Given the size of the vocabulary, returns which tokens may come next, `[vocab]`; None: all.
        is_cancelled: Called before each step, and before the request joins the batch.
        fail: Called with an error, after which no more tokens come.
    """

    request: Request
    rows: list[Row]
    take: Callable[[int, Tensor], bool]
    is_cancelled: Callable[[], bool]
    fail: Callable[[NescioError], None]
    allowed: Callable[[int], Tensor] | None = None
    prompt_tokens: int = 0  # of the positive branch
    longest_prompt: int = 0

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.rows[0].ids)
        self.longest_prompt = max(len(row.ids) for row in self.rows)

    @property
    def longest(self) -> int:
        """Number of tokens of the longer branch when the answer is complete."""
        return self.longest_prompt + self.request.max_tokens


class Loop:
    """Decodes requests in a thread that runs while there is work.

    Args:
        batch: Computes the rows.
        max_rows: Maximum number of rows in one forward. With 1, the branches of a guided request run in turn.
        prefix_tokens: Size of the cache of computed prompts, in tokens.
    """

    def __init__(self, batch: Batch, max_rows: int, prefix_tokens: int) -> None:
        self.batch = batch
        self.prefixes = PrefixCache(prefix_tokens)
        self.closed = False
        self._prefill = Prefill(batch, self.prefixes, max_rows)
        self._max_rows = max_rows
        self._waiting: deque[Job] = deque()
        self._live: list[Job] = []
        self._slots: list[Row] = []  # the row in each slot
        self._retired: set[int] = set()  # adapters to drop when no request uses them any more
        self._state = threading.Lock()  # guards `_waiting`, the thread and `closed`
        self._turn = threading.RLock()  # held during a step, and by callers that need the model between steps
        self._thread: threading.Thread | None = None  # the latest; it ends when there is no more work
        self._is_running = False
        close_at_exit(self)

    def tokens_left(self, job: Job) -> int:
        """Return how many new tokens a request could have if it ran alone; below 1 it never fits."""
        return self.batch.most_tokens(len(job.rows), self.batch.slots.most) - job.longest_prompt

    def submit(self, *jobs: Job) -> None:
        """Queue requests, all at once, so that which rows meet is no matter of timing; callable from any thread.

        Raises:
            EngineClosedError: The loop is closed.
        """
        with self._state:
            if self.closed:
                raise EngineClosedError("the engine is closed; load it again")
            release_threads()  # else the decoding thread's and the caller's together are too many
            self._waiting.extend(jobs)
            if not self._is_running:
                self._is_running = True
                self._thread = threading.Thread(target=self._run, name=DECODE_THREAD, daemon=True)
                self._thread.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold the model between two steps."""
        with self._turn:
            yield

    def retire(self, adapter: int) -> None:
        """Drop an adapter as soon as no request uses it."""
        with self._turn:
            self._retired.add(adapter)
            self._drop_retired()

    def close(self) -> None:
        """Fail the requests that are left and end the thread."""
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
            except Exception as error:  # whatever the model raises is passed on to the waiting callers
                failed, self._live, self._slots = self._live, [], []
                for job in failed:
                    job.fail(BrokenError("decoding failed", error))
        if left:  # a closed loop only; else another thread may have begun already
            self._live, self._slots = [], []
        for job in left:
            job.fail(EngineClosedError("the engine was closed before the answer was complete"))

    def _step(self) -> None:
        # 1) free the slots of cancelled requests
        self._remove([job for job in self._live if job.is_cancelled()])
        running = sum(len(job.rows) for job in self._live)
        # 2) admit waiting requests; their rows take the slots behind the running ones
        self._admit()
        # 3) decode: one token of each running row; logits [vocab] by the row's id
        logits: dict[int, Tensor] = {}
        for first in range(0, running, self._max_rows):
            part = self._slots[first : min(first + self._max_rows, running)]
            logits |= zip(map(id, part), self.batch.extend(first, part, 1), strict=True)
        # 4) prefill: the prompts of the new rows
        logits |= self._prefill(self._slots, running)
        # 5) guide and sample: one token of each request
        if self._live:
            self._remove([job for job, goes_on in self._sample(logits) if not goes_on])
        # 6) drop adapters that no request uses any more
        self._drop_retired()

    def _admit(self) -> None:
        """Move waiting requests into the batch, in the order of their submission, while they fit."""
        new: list[Row] = []
        with self._state:
            while self._waiting:
                if self._waiting[0].is_cancelled():  # its prompt need not be computed
                    self._waiting.popleft()
                    continue
                jobs = [*self._live, self._waiting[0]]
                rows = sum(len(job.rows) for job in jobs)
                tokens = self.batch.padded(rows) * columns(max(job.longest for job in jobs))
                if self._live and (rows > self._max_rows or tokens > self.batch.slots.most):
                    break
                self._live.append(self._waiting.popleft())
                new += self._live[-1].rows
        if new:
            # Prompts of similar length are computed together: neighbours of one length need the least padding.
            self._slots += sorted(new, key=lambda row: -len(row.ids))
            width = columns(max(job.longest for job in self._live))
            self.batch.slots.reserve(self.batch.padded(len(self._slots)), width)

    def _remove(self, jobs: list[Job]) -> None:
        """Free the slots of requests; the last rows move into the gaps."""
        for row in [row for job in jobs for row in job.rows]:
            gap, last = self._slots.index(row), len(self._slots) - 1
            if gap != last and self.batch.has_cache:
                self.batch.slots.copy(last, gap, self._slots[last].held)
            self._slots[gap] = self._slots[last]
            self._slots.pop()
        self._live = [job for job in self._live if job not in jobs]

    def _drop_retired(self) -> None:
        with self._state:
            used = {row.adapter for job in [*self._live, *self._waiting] for row in job.rows}
        for adapter in [adapter for adapter in self._retired if adapter not in used]:
            self.batch.adapters.drop(adapter)
            self._retired.discard(adapter)

    def _sample(self, logits: dict[int, Tensor]) -> Iterator[tuple[Job, bool]]:
        """Choose a token for each request and yield whether the request goes on."""
        for jobs, log_probs in self._distributions(logits):
            most = log_probs.amax(-1)  # [requests]; NaN where a row has one
            requests = [job.request for job in jobs]
            answers = [job.rows[0].ids[job.prompt_tokens :] for job in jobs]
            added = [bias_of(request, answer) for request, answer in zip(requests, answers, strict=True)]
            tokens = choose(biased(log_probs, added), requests, list(map(len, answers)))
            for job, row, top, token in zip(jobs, log_probs, most.tolist(), tokens.tolist(), strict=True):
                goes_on = False
                try:
                    if math.isnan(top):
                        raise ArithmeticError("NaN in the model's logits")
                    goes_on = job.take(token, row)
                    for branch in job.rows:
                        branch.ids.append(token)
                except FieldError as error:  # a schema that the library can't follow
                    job.fail(error)
                except Exception as error:  # concerns this request only; its neighbours go on
                    job.fail(BrokenError("no token could be chosen", error))
                yield job, goes_on

    def _distributions(self, logits: dict[int, Tensor]) -> Iterator[tuple[list[Job], Tensor]]:
        """Yield the log-probabilities `[requests, vocab]` of the unguided requests, and of the guided ones."""
        plain = [job for job in self._live if len(job.rows) == 1]
        guided = [job for job in self._live if len(job.rows) > 1]
        # What a grammar forbids is ruled out in both branches, before they are normalised: so guidance is that of the
        # constrained model, and it always leaves a token. Masked after it, a branch's tiny remainders would decide.
        for job in self._live:
            if job.allowed is not None:
                allowed = job.allowed(logits[id(job.rows[0])].shape[-1])
                for row in job.rows:
                    logits[id(row)] = logits[id(row)].masked_fill(~allowed.to(logits[id(row)].device), -torch.inf)
        if plain:
            yield plain, torch.stack([logits[id(job.rows[0])] for job in plain]).float().log_softmax(-1)
        if guided:
            how = [job.request.guidance or Guidance() for job in guided]
            positive, negative = (torch.stack([logits[id(job.rows[side])] for job in guided]) for side in (0, 1))
            yield guided, guide(positive, negative, how)
