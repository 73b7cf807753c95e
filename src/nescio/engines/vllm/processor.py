"""The logits processor for vLLM's first model runner (CPUs, and GPUs without Triton).

Knows vLLM's interface `vllm.v1.sample.logits_processor`; what is chosen is `choice`'s.
"""

from typing import Any

from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from nescio.engines.vllm.branch_rows import Row, teams
from nescio.engines.vllm.cpu_lora import spare_base_rows
from nescio.engines.vllm.token_choice import choose

spare_base_rows()  # here, because vLLM loads this module in every process that computes


class GuidanceProcessor(LogitsProcessor):  # type: ignore[misc]
    """Combines the rows of each guided request, whose place in the batch vLLM tells by what it adds and moves."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._rows: dict[int, tuple[Row, list[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a request whose row can't be read.

        Raises:
            ValueError: It is not what nescio writes.
        """
        Row.of(sampling_params)

    def is_argmax_invariant(self) -> bool:
        """Greedy tokens change too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch: which row is where, and the list in which vLLM keeps its answer."""
        process_dict_updates(self._rows, batch_update, _entry)

    def apply(self, logits: Tensor) -> Tensor:
        """Choose the tokens of this step."""
        return choose(logits, teams({number: (row, len(answer)) for number, (row, answer) in self._rows.items()}))


def _entry(sampling_params: Any, prompt: list[int] | None, answer: list[int]) -> tuple[Row, list[int]] | None:
    row = Row.of(sampling_params)
    return None if row is None else (row, answer)
