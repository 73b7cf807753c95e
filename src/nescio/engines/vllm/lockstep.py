"""The scheduler that keeps the two rows of a guided request together.

Both take their last known token in the same step, so that the two distributions that make the next one meet in one
batch; both wait, or both run. Where vLLM parts them all the same (it ran out of blocks or of budget between the two),
the token that was chosen without the other half is taken back before it leaves, and both start again from what they
have in common.

Knows vLLM's scheduler, of which it overrides no more than what is named here; nothing of logits.
"""

import time
from collections.abc import Iterable
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from nescio.engines.vllm.branch_rows import Role, Row


class LockstepScheduler(Scheduler):  # type: ignore[misc]
    """vLLM's scheduler, for requests of which some are halves of one.

    Attributes:
        replays: How many times a pair had come apart and was started again from its last common token.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.replays = 0
        self._halves: dict[tuple[str, Role], Request] = {}
        self._rows: dict[str, Row] = {}

    def add_request(self, request: Request) -> None:
        """Take a request; a half is found by its other half from here on."""
        row = Row.of(request.sampling_params)
        if row is not None and row.role != "alone":
            self._rows[request.request_id] = row
            self._halves[row.key, row.role] = request
        super().add_request(request)

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        row = self._rows.pop(request.request_id, None)
        if row is not None:
            del self._halves[row.key, row.role]
        return super()._free_request(request, *args, **kwargs)

    def finish_requests(self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus) -> list[Request]:
        """End requests from outside (an abort, say); a half never without its other half."""
        if request_ids is not None:
            ids = [request_ids] if isinstance(request_ids, str) else list(request_ids)
            others = [self._other(self.requests[name]) for name in ids if name in self.requests]
            request_ids = {*ids, *(other.request_id for other in others if other is not None)}
        finished: list[Request] = super().finish_requests(request_ids, finished_status)
        return finished

    # -- a step's schedule --------------------------------------------------------------------------------------------

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """Choose what runs in this step."""
        self._reunite()
        return super().schedule(*args, **kwargs)

    def _reunite(self) -> None:
        """Let at most one half run without its other half, and that one come next.

        Several could hold all the memory between them, each waiting for room for its other half. One can't: a pair is
        only accepted if the two have room together.
        """
        lone = [request for request in self.running if (other := self._other(request)) and not _running(other)]
        for request in reversed(lone[1:]):
            self._send_back(request)
        if lone and (other := self._other(lone[0])) in self.waiting:
            self.waiting.remove_request(other)
            self.waiting.prepend_request(other)

    def _handle_blocked_waiting_request(self, request: Request) -> bool:
        # All that a prompt of one token has to compute is its last token, which waits for the other half's.
        if request.request_id in self._rows and request.num_tokens == 1 and not self._both_ready(request):
            return False
        return bool(super()._handle_blocked_waiting_request(request))

    def _get_local_prefix_cache_hit(self, request: Request) -> Any:
        # Likewise a prompt that is cached up to its last token: one block less, and it can be admitted ahead of it.
        blocks, cached, *rest = super()._get_local_prefix_cache_hit(request)
        if request.request_id in self._rows and 0 < cached == request.num_tokens - 1:
            cached = (cached - 1) // self.block_size * self.block_size
            blocks = self.kv_cache_manager.truncate_computed_blocks(blocks, cached)
        return blocks, cached, *rest

    def _reserve_prefill_lookahead(self, request: Request, num_computed_tokens: int, num_new_tokens: int) -> int:
        # vLLM's last word on how many tokens a request computes in this step, none meaning that it sits it out. A half
        # stops short of its last token until, at the start of a step, both halves have only that one left.
        num_new_tokens = super()._reserve_prefill_lookahead(request, num_computed_tokens, num_new_tokens)
        reaches_last = num_computed_tokens + num_new_tokens >= request.num_tokens
        if request.request_id in self._rows and reaches_last and not self._both_ready(request):
            return num_new_tokens - 1
        return num_new_tokens

    # -- a step's outcome ---------------------------------------------------------------------------------------------

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """Take the step's tokens; those of halves that were not in step are taken back first."""
        tokens = model_runner_output.sampled_token_ids
        place = model_runner_output.req_id_to_index
        chosen = {name: tokens[place[name]] for name in scheduler_output.num_scheduled_tokens if tokens}
        apart = [
            request
            for name, own in chosen.items()
            if own and (request := self.requests.get(name)) is not None and not self._in_step(request, chosen)
        ]
        for request in apart:
            chosen[request.request_id].clear()
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        self.replays += len({self._rows[request.request_id].key for request in apart})
        for request in reversed(apart):
            if _running(request):
                self._send_back(request)
        return outputs

    def _in_step(self, request: Request, chosen: dict[str, list[int]]) -> bool:
        """Whether a request's token counts: not a half's, or both halves have the same token for the same place."""
        if request.request_id not in self._rows:
            return True
        other = self._other(request)
        return (
            other is not None
            and chosen[request.request_id] == chosen.get(other.request_id)
            and request.num_output_tokens == other.num_output_tokens
        )

    def _send_back(self, request: Request) -> None:
        self.running.remove(request)
        self._preempt_request(request, time.monotonic())

    def _other(self, request: Request) -> Request | None:
        row = self._rows.get(request.request_id)
        if row is None:
            return None
        return self._halves.get((row.key, "negative" if row.role == "positive" else "positive"))

    def _both_ready(self, request: Request) -> bool:
        """Whether both halves have only their last token left to compute."""
        other = self._other(request)
        return other is not None and all(half.num_tokens - half.num_computed_tokens == 1 for half in (request, other))


def _running(request: Request) -> bool:
    return bool(request.status == RequestStatus.RUNNING)
