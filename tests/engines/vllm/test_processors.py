"""Both of vLLM's interfaces for logits processors: rows that come, move and go, and what is handed to `choose`.

The second runner needs Triton, which CPUs lack: its processor is driven here with the structures that it would get.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext

from nescio.core.guidance import Guidance
from nescio.core.guide import guide
from nescio.engines.vllm import processor, second_runner
from nescio.engines.vllm.branch_rows import BranchRow


def params(request: str, role: Any, **how: Any) -> SamplingParams:
    row = BranchRow(request=request, role=role, guidance=Guidance(**how))
    return SamplingParams(temperature=0, extra_args=row.extra_args())


def logits(rows: int) -> torch.Tensor:
    return torch.randn(rows, 30, generator=torch.Generator().manual_seed(3)) * 3


def combined(given: torch.Tensor, first: int, second: int, scale: float) -> int:
    return int(guide(given[[first]], given[[second]], scale=scale, space="prob").argmax())


def test_the_first_runners_rows_are_followed_through_the_batch() -> None:
    ours = processor.GuidanceProcessor(None, torch.device("cpu"), False)
    assert not ours.is_argmax_invariant()
    answers: list[list[int]] = [[], [], []]
    added = [
        (0, params("a", "positive", scale=4.0), [1], answers[0]),
        (1, SamplingParams(temperature=0), [1], answers[1]),
        (2, params("a", "negative", scale=4.0), [1, 2], answers[2]),
    ]
    ours.update_state(BatchUpdate(3, removed=[], added=added, moved=[]))
    given = logits(3)
    after = ours.apply(given.clone())
    assert {int(after[0].argmax()), int(after[2].argmax())} == {combined(given, 0, 2, 4.0)}
    assert torch.equal(after[1], given[1])

    answers[0].append(5)  # the second half did not take its token
    assert torch.equal(ours.apply(given.clone()), given)
    answers[2].append(5)
    ours.update_state(BatchUpdate(3, removed=[], added=[], moved=[(0, 1, MoveDirectionality.SWAP)]))
    after = ours.apply(given.clone())
    assert {int(after[1].argmax()), int(after[2].argmax())} == {combined(given, 1, 2, 4.0)}
    assert torch.equal(after[0], given[0])

    ours.update_state(BatchUpdate(2, removed=[1], added=[], moved=[(2, 1, MoveDirectionality.UNIDIRECTIONAL)]))
    assert torch.equal(ours.apply(given[:2].clone()), given[:2])


def context(slots: list[int], seen: list[int]) -> LogitsContext:
    index = torch.tensor(slots)
    unused = torch.zeros(len(slots), dtype=torch.long)
    return LogitsContext(index, index, np.array(slots), unused, unused, unused, np.array([*seen, 0, 0]))


def test_the_second_runners_slots_are_found_in_any_order_of_the_batch() -> None:
    prompts = SimpleNamespace(np=np.array([9, 4, 9, 6, 9, 9]))
    ours = second_runner.GuidanceProcessor(None, SimpleNamespace(prompt_len=prompts))
    assert ours.add_request(3, params("a", "positive", scale=4.0))
    assert ours.add_request(1, params("a", "negative", scale=4.0))
    assert not ours.add_request(5, SamplingParams(temperature=0))
    given = logits(3)
    after = ours.apply(given.clone(), context([5, 1, 3], [20, 6, 8]))
    assert {int(after[1].argmax()), int(after[2].argmax())} == {combined(given, 2, 1, 4.0)}
    assert torch.equal(after[0], given[0])

    assert torch.equal(ours.apply(given.clone(), context([5, 1, 3], [20, 7, 8])), given), "one token apart"
    assert torch.equal(ours.apply(given.clone(), context([5, 1, 3], [20, 3, 5])), given), "both in their prompts"
    assert not ours.add_request(1, SamplingParams(temperature=0))
    assert torch.equal(ours.apply(given.clone(), context([5, 1, 3], [20, 6, 8])), given), "the slot has a new owner"


@pytest.mark.parametrize("module", [processor, second_runner])
def test_parameters_that_are_no_row_are_refused_at_the_door(module: Any) -> None:
    module.GuidanceProcessor.validate_params(params("a", "positive"))
    with pytest.raises(ValueError, match="not what nescio writes"):
        module.GuidanceProcessor.validate_params(SamplingParams(extra_args={"nescio": {"role": 1}}))
