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

from nescio.engines.base import EngineClosedError, Request
from nescio.engines.kv_cache import Kept
from nescio.engines.prefix import Prefixes
from nescio.engines.rows import Row, Rows
from nescio.engines.sampling import COLDEST, pick
from nescio.errors import NescioError
from nescio.guidance import Guidance, guide

_PREFILL = 2048  # most prompt tokens computed in one step, so that no answer waits long for another's prompt


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
    generator: torch.Generator = field(default_factory=torch.Generator)
    prompts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator.manual_seed(self.request.seed)
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
        self._max_rows = max_rows
        self._waiting: deque[Work] = deque()
        self._live: list[Work] = []
        self._slots: list[Row] = []  # the row in each slot
        self._retired: set[int] = set()
        self._state = threading.Lock()  # guards what is waiting, the thread and `closed`
        self._turn = threading.RLock()  # held for a step, and by whoever needs the model between steps
        self._thread: threading.Thread | None = None

    @property
    def load(self) -> tuple[int, int]:
        """How many requests wait, and how many slots are taken."""
        return len(self._waiting), len(self._slots)

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
            if self._thread is None:
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
                    self._thread = None
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
        logits |= self._prefilled(new)
        if self._live:
            done = [work for work, going in zip(self._live, self._chosen(logits), strict=True) if not going]
            self._leave(done)
        self._drop_retired()

    def _computed(self, rows: list[Row]) -> Iterator[tuple[Row, Tensor]]:
        for first in range(0, len(rows), self._max_rows):
            part = rows[first : first + self._max_rows]
            yield from zip(part, self.rows.extend(first, part, 1), strict=True)

    # -- coming and going ---------------------------------------------------------------------------------------------

    def _room(self, works: list[Work]) -> bool:
        rows = self.rows.padded(sum(len(work.rows) for work in works))
        return rows * self.rows.columns(max(work.longest for work in works)) <= self.rows.slots.most

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
                self._slots += work.rows
                new.append(work)
        if new:
            columns = self.rows.columns(max(work.longest for work in self._live))
            self.rows.slots.reserve(self.rows.padded(len(self._slots)), columns)
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

    # -- prompts ------------------------------------------------------------------------------------------------------

    def _prefilled(self, works: list[Work]) -> dict[int, Tensor]:
        """The logits after each new row's prompt; a prompt that several rows share is computed once."""
        logits: dict[int, Tensor] = {}
        owners: dict[tuple[int | None, tuple[int, ...]], list[int]] = {}
        first = len(self._slots) - sum(len(work.rows) for work in works)
        for slot in range(first, len(self._slots)):
            row = self._slots[slot]
            owners.setdefault((row.adapter, tuple(row.ids)), []).append(slot)
        for (adapter, ids), slots in owners.items():
            row = self._slots[slots[0]]
            found = self.prefixes.find(adapter, ids) if self.rows.cached else None
            if found:
                self.rows.slots.write(slots[0], found.kept, found.tokens)
                row.held = found.tokens
                if found.logits is not None:
                    logits[id(row)] = found.logits
        for run in self._runs([slots[0] for slots in owners.values()]):
            for slot, out in zip(run, self._prompt_logits(run), strict=True):
                logits[id(self._slots[slot])] = out
                self._keep(slot, out)
        for slots in owners.values():
            source = self._slots[slots[0]]
            for slot in slots[1:]:
                if self.rows.cached:
                    self.rows.slots.copy(slots[0], slot, source.held)
                self._slots[slot].held = source.held
                logits[id(self._slots[slot])] = logits[id(source)]
        return logits

    def _runs(self, slots: list[int]) -> Iterator[list[int]]:
        """Neighbouring slots whose prompts are to be computed, as many at a time as the step's budget allows."""
        run: list[int] = []
        for slot in slots:
            if not self._slots[slot].missing:
                continue
            longest = max(self._slots[s].missing for s in [*run, slot])
            if run and (slot != run[-1] + 1 or (len(run) + 1) * longest > _PREFILL or len(run) == self._max_rows):
                yield run
                run = []
            run.append(slot)
        if run:
            yield run

    def _prompt_logits(self, run: list[int]) -> list[Tensor]:
        out: list[Tensor] = [torch.empty(0)] * len(run)
        while any(self._slots[slot].missing for slot in run):
            left = [place for place, slot in enumerate(run) if self._slots[slot].missing]
            # Rows that are done first leave the run; the rest are still neighbours, or go one by one.
            whole = len(left) == len(run)
            for part in [left] if whole else [[place] for place in left]:
                rows = [self._slots[run[place]] for place in part]
                extended = self.rows.extend(run[part[0]], rows, max(2, _PREFILL // len(rows)))
                for place, logits in zip(part, extended, strict=True):
                    out[place] = logits
        return out

    def _keep(self, slot: int, logits: Tensor) -> None:
        row = self._slots[slot]
        ids = tuple(row.ids)
        if self.rows.cached and self.prefixes.wanted(ids):
            kept: Kept = self.rows.slots.read(slot, len(ids))
            self.prefixes.keep(row.adapter, ids, kept, logits.clone())

    # -- tokens -------------------------------------------------------------------------------------------------------

    def _chosen(self, logits: dict[int, Tensor]) -> Iterator[bool]:
        """Choose a token for each request; whether each goes on."""
        live = self._live
        log_probs = torch.stack([logits[id(work.rows[0])] for work in live]).float().log_softmax(-1)
        guided = [place for place, work in enumerate(live) if len(work.rows) > 1]
        if guided:
            how = [live[place].request.guidance or Guidance() for place in guided]
            log_probs[guided] = guide(
                torch.stack([logits[id(live[place].rows[0])] for place in guided]),
                torch.stack([logits[id(live[place].rows[1])] for place in guided]),
                torch.tensor([g.scale for g in how]),
                [g.space for g in how],
                torch.tensor([g.plausibility for g in how]),
                [g.adaptive for g in how],
            )
        most, greedy = log_probs.max(-1)  # NaN where a row has one
        for work, row, top, likeliest in zip(live, log_probs, most.tolist(), greedy.tolist(), strict=True):
            going = False
            try:
                if math.isnan(top):
                    raise ArithmeticError("NaN in the model's logits")
                going = _next_token(work, row, likeliest)
            except Exception as error:  # this request's own; its neighbours go on
                work.fail(NescioError(f"no token could be chosen ({type(error).__name__}: {error})"))
            yield going


def _next_token(work: Work, log_probs: Tensor, likeliest: int) -> bool:
    """Choose a request's token and hand it over; whether the request goes on."""
    asked = work.request
    token = likeliest
    if asked.temperature >= COLDEST:
        token = pick(log_probs, asked.temperature, asked.top_p, asked.top_k, work.generator)
    going = work.take(token, log_probs)
    for branch in work.rows:
        branch.ids.append(token)
    return going
