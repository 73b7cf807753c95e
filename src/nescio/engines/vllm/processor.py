"""The logits processor for vLLM's first model runner (CPUs, and GPUs without Triton)."""

from typing import Any

from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from nescio.engines.vllm.branch_rows import BranchRow, rows_in_step
from nescio.engines.vllm.cpu_lora import fix_base_rows
from nescio.engines.vllm.token_choice import choose_tokens

fix_base_rows()  # vLLM imports this module in every process that computes


class GuidanceProcessor(LogitsProcessor):  # type: ignore[misc]
    """Combines the rows of each guided request; vLLM reports each row that it adds, moves or removes."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._rows: dict[int, tuple[BranchRow, list[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Check the row of a request.

        Raises:
            ValueError: It is not what nescio writes.
        """
        BranchRow.of(sampling_params)

    def is_argmax_invariant(self) -> bool:
        """Return False: guidance changes greedy tokens, too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Update the row at each place of the batch, and the list to which vLLM appends its answer's tokens."""
        process_dict_updates(self._rows, batch_update, _entry)

    def apply(self, logits: Tensor) -> Tensor:
        """Choose the tokens of this step."""
        rows = {number: (row, len(answer)) for number, (row, answer) in self._rows.items()}
        return choose_tokens(logits, rows_in_step(rows))


def _entry(sampling_params: Any, prompt: list[int] | None, answer: list[int]) -> tuple[BranchRow, list[int]] | None:
    row = BranchRow.of(sampling_params)
    return None if row is None else (row, answer)
