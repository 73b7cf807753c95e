"""What a request becomes for vLLM; without vLLM."""

from typing import Any

from nescio.core.guidance import Guidance
from nescio.engines.base import Request, Stream
from nescio.engines.detokenizer import Detokenizer
from nescio.engines.vllm.branch_rows import BranchRow
from nescio.engines.vllm.jobs import Job


def job(tokenizer: Any, request: Request, branches: int) -> Job:
    return Job(
        name="a",
        request=request,
        branches=[[1, 2]] * branches,
        writing=Detokenizer(tokenizer, request, [1, 2], Stream()),
    )


def test_a_branch_alone_carries_no_guidance_and_a_pair_all_of_it(chatml: Any) -> None:
    how = Guidance(1.0, "log", plausibility=0.5, adaptive=True)
    alone = job(chatml, Request("Tom", how, logprobs=0, temperature=0.5, seed=3), 1)
    assert alone.row("alone") == BranchRow(request="a", role="alone", temperature=0.5, seed=3)
    how = Guidance(2.0, "log", plausibility=0.5, adaptive=True)
    pair = job(chatml, Request("Tom", how, "Anna"), 2)
    assert pair.row("negative") == BranchRow(request="a", role="negative", guidance=how)
