"""The logits processor for vLLM's second model runner (GPUs with Triton)."""

from typing import Any

from torch import Tensor
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcessor

from nescio.engines.vllm.branch_rows import BranchRow, rows_in_step
from nescio.engines.vllm.token_choice import choose_tokens


class GuidanceProcessor(LogitsProcessor):  # type: ignore[misc]
    """Combines the rows of each guided request. A request keeps its slot while it runs; the batch order changes."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        self._prompt_lengths = req_states.prompt_len
        self._slots: dict[int, BranchRow] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Check the row of a request.

        Raises:
            ValueError: It is not what nescio writes.
        """
        BranchRow.of(sampling_params)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Assign a slot to a request; return whether its tokens are chosen here."""
        row = BranchRow.of(sampling_params)
        if row is None:
            self._slots.pop(req_idx, None)
            return False
        self._slots[req_idx] = row
        return True

    def apply(self, logits: Tensor, ctx: LogitsContext) -> Tensor:
        """Choose the tokens of this step. Without speculation, each request has one row of logits."""
        # A row's sequence is its prompt and its answer so far.
        answers = ctx.seq_lens_upper_bound_np[: len(ctx.idx_mapping_np)] - self._prompt_lengths.np[ctx.idx_mapping_np]
        rows = {
            number: (self._slots[slot], int(answers[number]))
            for number, slot in enumerate(ctx.idx_mapping_np.tolist())
            if slot in self._slots
        }
        return choose_tokens(logits, rows_in_step(rows))
