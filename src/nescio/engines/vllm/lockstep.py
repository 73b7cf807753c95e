"""vLLM's scheduler, changed to keep the two branches of a guided request in step.

Both branches compute their last known token in the same step, so that the two distributions that make the next token
meet in one batch. Both wait, or both run. vLLM can still separate them, when it runs out of blocks or of token budget
between the two. Then the token that was chosen from one branch alone is dropped before it leaves the scheduler, and
both restart from their common tokens.
"""

import time
from collections.abc import Iterable
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from nescio.engines.vllm.branch_rows import BranchRow, Role


class LockstepScheduler(Scheduler):  # type: ignore[misc]
    """vLLM's scheduler, in which two requests can be the branches of one guided request.

    Attributes:
        replays: Number of times that a pair was separated and restarted from its common tokens.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.replays = 0
        self._branches: dict[tuple[str, Role], Request] = {}
        self._rows: dict[str, BranchRow] = {}

    def add_request(self, request: Request) -> None:
        """Add a request; record it if it is a branch."""
        row = BranchRow.of(request.sampling_params)
        if row is not None and row.role != "alone":
            self._rows[request.request_id] = row
            self._branches[row.request, row.role] = request
        super().add_request(request)

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        row = self._rows.pop(request.request_id, None)
        if row is not None:
            del self._branches[row.request, row.role]
        return super()._free_request(request, *args, **kwargs)

    def finish_requests(self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus) -> list[Request]:
        """End requests from outside, as an abort does; a branch always with its other branch."""
        if request_ids is not None:
            ids = [request_ids] if isinstance(request_ids, str) else list(request_ids)
            others = [self._other(self.requests[name]) for name in ids if name in self.requests]
            request_ids = {*ids, *(other.request_id for other in others if other is not None)}
        finished: list[Request] = super().finish_requests(request_ids, finished_status)
        return finished

    # -- before a step: the schedule ----------------------------------------------------------------------------------

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """Schedule one step."""
        self._reunite()
        return super().schedule(*args, **kwargs)

    def _reunite(self) -> None:
        """Let at most one branch run without its other branch, and schedule that other branch next.

        Several lone branches could hold all the memory between them, each waiting for memory for its other branch. One
        cannot: a request is only accepted if both of its branches fit together.
        """
        lone = [request for request in self.running if (other := self._other(request)) and not _is_running(other)]
        for request in reversed(lone[1:]):
            self._move_to_waiting(request)
        if lone and (other := self._other(lone[0])) in self.waiting:
            self.waiting.remove_request(other)
            self.waiting.prepend_request(other)

    def _handle_blocked_waiting_request(self, request: Request) -> bool:
        # A prompt of one token has only its last token to compute, which must wait for the other branch's.
        if request.request_id in self._rows and request.num_tokens == 1 and not self._both_ready(request):
            return False
        return bool(super()._handle_blocked_waiting_request(request))

    def _get_local_prefix_cache_hit(self, request: Request) -> Any:
        # So does a prompt that is cached up to its last token. With one cached block less, it can be admitted before.
        blocks, cached, *rest = super()._get_local_prefix_cache_hit(request)
        if request.request_id in self._rows and 0 < cached == request.num_tokens - 1:
            cached = (cached - 1) // self.block_size * self.block_size
            blocks = self.kv_cache_manager.truncate_computed_blocks(blocks, cached)
        return blocks, cached, *rest

    def _reserve_prefill_lookahead(self, request: Request, num_computed_tokens: int, num_new_tokens: int) -> int:
        # Here vLLM decides how many tokens a request computes in this step; 0 skips the step. A branch stops before its
        # last token until, at the start of a step, both branches have only that token left.
        num_new_tokens = super()._reserve_prefill_lookahead(request, num_computed_tokens, num_new_tokens)
        reaches_last = num_computed_tokens + num_new_tokens >= request.num_tokens
        if request.request_id in self._rows and reaches_last and not self._both_ready(request):
            return num_new_tokens - 1
        return num_new_tokens

    # -- after a step: the tokens -------------------------------------------------------------------------------------

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """Apply the tokens of a step, after those of branches that were not in step are dropped."""
        # 1) find the branches that were not in step
        tokens = model_runner_output.sampled_token_ids
        place = model_runner_output.req_id_to_index
        chosen = {name: tokens[place[name]] for name in scheduler_output.num_scheduled_tokens if tokens}
        apart = [
            request
            for name, own in chosen.items()
            if own and (request := self.requests.get(name)) is not None and not self._in_step(request, chosen)
        ]
        # 2) drop their tokens
        for request in apart:
            chosen[request.request_id].clear()
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        # 3) restart them from their common tokens
        self.replays += len({self._rows[request.request_id].request for request in apart})
        for request in reversed(apart):
            if _is_running(request):
                self._move_to_waiting(request)
        return outputs

    def _in_step(self, request: Request, chosen: dict[str, list[int]]) -> bool:
        """Return whether a token counts: the request is no branch, or both branches have it at the same position."""
        if request.request_id not in self._rows:
            return True
        other = self._other(request)
        return (
            other is not None
            and chosen[request.request_id] == chosen.get(other.request_id)
            and request.num_output_tokens == other.num_output_tokens
        )

    def _move_to_waiting(self, request: Request) -> None:
        self.running.remove(request)
        self._preempt_request(request, time.monotonic())

    def _other(self, request: Request) -> Request | None:
        row = self._rows.get(request.request_id)
        if row is None:
            return None
        return self._branches.get((row.request, "negative" if row.role == "positive" else "positive"))

    def _both_ready(self, request: Request) -> bool:
        """Return whether both branches have only their last token left to compute."""
        other = self._other(request)
        branches = [request] if other is None else [request, other]
        return len(branches) == 2 and all(one.num_tokens - one.num_computed_tokens == 1 for one in branches)


def _is_running(request: Request) -> bool:
    return bool(request.status == RequestStatus.RUNNING)
