"""The embedded model on vLLM, token for token what the torch engine gives."""

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from nescio.core.guidance import Guidance
from nescio.core.guide import guide
from nescio.core.prompts import encode
from nescio.engines.base import Request, Stream
from nescio.engines.torch_engine import TorchEngine
from nescio.engines.vllm.vllm_engine import load

TIE = 1e-4
TOPICS = ["my bank", "Tom", "the garden", "a train to Geneva", "rain", "a cat", "chess", "bread", "the moon", "a song"]
ASKS = ["Who is my contact for {}?", "Write a line about {}.", "What do you know of {}?", "Tell Anna about {}."]
PROMPTS = [ask.format(topic) for ask in ASKS for topic in TOPICS]
AT_A_TIME = 16


@pytest.fixture(scope="module")
def embedded() -> Iterator[Any]:
    engine = load("smollm2", options={
        "enforce_eager": True, "max_model_len": 512, "kv_cache_memory_bytes": 1 << 29, "max_num_batched_tokens": 256,
    })  # fmt: skip
    yield engine
    engine.close()


@pytest.mark.parametrize("space", ["log", "prob"])
@pytest.mark.parametrize("scale", [1.5, 3.0, 5.0])
def test_forty_prompts_sixteen_at_a_time_are_the_torch_engines(
    embedded: Any, smollm2: TorchEngine, scale: float, space: Any
) -> None:
    asked = [
        Request([{"role": "user", "content": prompt}], Guidance(scale, space), max_tokens=12) for prompt in PROMPTS
    ]
    generator, running, answers = random.Random(7), [], []
    for request in asked:
        if len(running) == AT_A_TIME:
            answers.append(running.pop(0).answer)
        running.append(embedded.submit(request))
        time.sleep(generator.uniform(0, 0.05))
    answers += [stream.answer for stream in running]
    ties = 0
    for request, ours, theirs in zip(asked, answers, smollm2.generate(asked), strict=True):
        if ours.token_ids != theirs.token_ids:
            assert tied(smollm2, request, ours.token_ids, theirs.token_ids)
            ties += 1
    assert ties < len(PROMPTS) / 10


def tied(engine: TorchEngine, request: Request, ours: list[int], theirs: list[int]) -> bool:
    """Whether two answers part at two tokens that are as likely as each other."""
    end = engine.tokenizer.eos_token_id
    place = next(i for i, (a, b) in enumerate(zip([*ours, end], [*theirs, end], strict=False)) if a != b)
    both, how = [], request.guidance or Guidance()
    for text in engine.branches(request.prompt, request.guidance):
        with torch.no_grad():
            both.append(engine.model(torch.tensor([encode(engine.tokenizer, text) + theirs[:place]])).logits[:, -1])
    log_probs = guide(both[0], both[1], how)[0]
    first, second = ([*answer, end][place] for answer in (ours, theirs))
    return abs(float(log_probs[first] - log_probs[second])) < TIE


def test_a_cancelled_answer_frees_its_rows_at_once(embedded: Any) -> None:
    stream: Stream = embedded.submit(
        Request([{"role": "user", "content": "Count to a hundred."}], Guidance(2.0), max_tokens=256)
    )
    next(stream)
    stream.cancel()
    assert stream.answer.finish == "cancelled"
    embedded._wait_for(lambda: None)
    assert not embedded._scheduler.requests


def test_close_ends_what_is_left_and_refuses_what_comes(embedded: Any) -> None:
    stream = embedded.submit(Request([{"role": "user", "content": "Count."}], Guidance(2.0), max_tokens=256))
    embedded.close()
    embedded.close()
    with pytest.raises(Exception, match="closed"):
        _ = stream.answer
    with pytest.raises(Exception, match="closed"):
        embedded.submit(Request("a"))
