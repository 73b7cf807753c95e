"""Guided decoding on this machine's device, a GPU where there is one: tokens against two separate forwards."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nescio.core.guidance import Guidance
from nescio.core.guide import guide
from nescio.core.models import best_device
from nescio.core.prompts import encode
from nescio.engines.base import Request
from nescio.engines.torch_engine import TorchEngine

DEVICE = best_device()
PROMPTS = ["My name is", "Please write to Anna Ferrari, who lives in Geneva, about the garden", "a", "Tom and I"]
REVEAL = "You should share: "
TOKENS = 12


def engine_of(make_model: Callable[..., Any], chatml: Any, dtype: torch.dtype) -> TorchEngine:
    return TorchEngine(make_model("llama").to(DEVICE, dtype), chatml)


def asked(scale: float, space: str) -> list[Request]:
    how = Guidance(scale, space)
    return [Request(text, how, REVEAL + text, max_tokens=TOKENS) for text in PROMPTS]


def two_forwards(engine: TorchEngine, request: Request, found: list[int]) -> Tensor:
    """The guided log-probabilities after some tokens of the answer, each branch in a forward of its own."""
    texts = engine.branches(request.prompt, request.guidance, request.negative)
    with torch.no_grad():
        positive, negative = (
            engine.model(torch.tensor([encode(engine.tokenizer, text) + found], device=DEVICE)).logits[:, -1]
            for text in texts
        )
    assert request.guidance
    return guide(positive, negative, request.guidance)[0]


@pytest.mark.parametrize("space", ["log", "prob"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_guided_tokens_are_those_of_two_forwards(
    make_model: Callable[..., Any], chatml: Any, dtype: torch.dtype, space: str
) -> None:
    requests = asked(3.0, space)
    with engine_of(make_model, chatml, dtype) as engine:
        answers = engine.generate(requests)
        for request, answer in zip(requests, answers, strict=True):
            for place, token in enumerate(answer.token_ids):
                wanted = two_forwards(engine, request, answer.token_ids[:place])
                if dtype == torch.float32:
                    assert token == int(wanted.argmax())
                else:  # a near tie may fall either way, no more
                    finite = wanted[wanted.isfinite()]
                    assert float(wanted.max() - wanted[token]) < 0.1 * max(1.0, float(finite.std()))
    assert sum(len(answer.token_ids) for answer in answers) > len(PROMPTS)


def test_a_request_has_the_same_answer_alone_and_beside_others(make_model: Callable[..., Any], chatml: Any) -> None:
    requests = asked(2.0, "log")
    with engine_of(make_model, chatml, torch.float32) as engine:
        together = [answer.token_ids for answer in engine.generate(requests)]
        assert together == [engine.generate([request])[0].token_ids for request in requests]


def test_draws_are_the_seeds(make_model: Callable[..., Any], chatml: Any) -> None:
    requests = [Request(text, max_tokens=TOKENS, temperature=1.0, top_p=0.9, seed=7) for text in PROMPTS]
    with engine_of(make_model, chatml, torch.float32) as engine:
        first, again = ([answer.token_ids for answer in engine.generate(requests)] for _ in range(2))
        assert first == again
        greedy = engine.generate([Request(PROMPTS[1], max_tokens=TOKENS)])[0].token_ids
    assert first[1] != greedy
