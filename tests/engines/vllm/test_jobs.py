"""What a request becomes for vLLM; without vLLM."""

import threading
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from nescio.core.guidance import Guidance
from nescio.engines.base import BrokenError, EngineClosedError, Request, Stream
from nescio.engines.detokenizer import Detokenizer
from nescio.engines.vllm.branch_rows import BranchRow
from nescio.engines.vllm.jobs import Job
from nescio.engines.vllm.vllm_engine import VllmEngine


def job(tokenizer: Any, request: Request, branches: int) -> Job:
    return Job(
        name="a",
        request=request,
        branches=[[1, 2]] * branches,
        detokenizer=Detokenizer(tokenizer, request, [1, 2], Stream()),
    )


def test_a_branch_alone_carries_no_guidance_and_a_pair_all_of_it(chatml: Any) -> None:
    how = Guidance(1.0, "log", plausibility=0.5, adaptive=True)
    alone = job(chatml, Request("Tom", how, logprobs=0, temperature=0.5, seed=3), 1)
    assert alone.row("alone") == BranchRow(request="a", role="alone", temperature=0.5, seed=3)
    how = Guidance(2.0, "log", plausibility=0.5, adaptive=True)
    pair = job(chatml, Request("Tom", how, "Anna"), 2)
    assert pair.row("negative") == BranchRow(request="a", role="negative", guidance=how)


def test_what_vllm_says_is_not_in_what_a_server_logs(chatml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **more: Any) -> None:
        raise ValueError("Anna said\nthis")

    monkeypatch.setattr(Job, "sampling", lambda *given: None)  # an object of vLLM's
    engine: Any = object.__new__(VllmEngine)
    engine._closing, engine._gate, engine._calls = threading.Event(), threading.Lock(), SimpleQueue()
    engine._llm = SimpleNamespace(step=fail, add_request=fail, abort_request=lambda names: None)
    refused, broken = (job(chatml, Request("Tom"), 1) for _ in range(2))
    engine._jobs = {}
    engine._start(refused)
    with pytest.raises(BrokenError, match=r"^vLLM refuses the request \(ValueError: Anna said\)$") as caught:
        next(refused.detokenizer.stream)
    assert caught.value.message == "vLLM refuses the request (ValueError)"
    engine._jobs = {broken.name: broken}
    engine._run()
    with pytest.raises(EngineClosedError, match=r"^vLLM failed \(ValueError\); its log says more$"):
        next(broken.detokenizer.stream)
