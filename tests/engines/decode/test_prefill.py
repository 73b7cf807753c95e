"""Prompts of new rows: what several begin with is computed once, and each gets the logits it gets alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nescio.engines.decode.batch import Batch, Row
from nescio.engines.decode.cpu_linear import pack
from nescio.engines.decode.prefill import Prefill
from nescio.engines.decode.prefix_cache import PrefixCache

Make = Callable[..., Any]
SYSTEM = [7 + n % 90 for n in range(60)]


@pytest.fixture(scope="module")
def model(make_model: Make) -> Any:
    model = make_model("llama")
    pack(model, "full")
    return model


def prefilled(model: Any, prompts: list[list[int]], prefix_tokens: int = 0) -> tuple[list[torch.Tensor], int]:
    """The logits after each prompt, and how many tokens were computed."""
    rows, computed = Batch(model, 1 << 14, 512), 0
    extend = rows.extend

    def counting(first: int, given: Any, most: int) -> torch.Tensor:
        nonlocal computed
        computed += sum(min(row.missing, most) for row in given)
        return extend(first, given, most)

    rows.extend = counting  # type: ignore[method-assign]
    rows.slots.reserve(Batch.padded(len(prompts)), 192)
    slots = [Row([*ids]) for ids in prompts]
    with torch.inference_mode():
        found = Prefill(rows, PrefixCache(prefix_tokens), max_rows=8)(slots, 0)
    assert all(row.missing == 0 for row in slots)
    return [found[id(row)] for row in slots], computed


def test_what_prompts_begin_with_is_computed_once(model: Any) -> None:
    prompts = [[*SYSTEM, 200 + n, 5] for n in range(4)]
    logits, computed = prefilled(model, prompts)
    assert computed == len(SYSTEM) + 2 + 3 * 2
    for prompt, alone in zip(prompts, logits, strict=True):
        assert torch.equal(alone, prefilled(model, [prompt])[0][0])


def test_a_beginning_too_short_to_pay_is_not_shared(model: Any) -> None:
    prompts = [[*SYSTEM[:10], 200 + n, 5] for n in range(3)]
    assert prefilled(model, prompts)[1] == 36


def test_adapters_share_nothing(model: Any) -> None:
    rows = Batch(model, 1 << 14, 512)
    slots = [Row([*SYSTEM, 5 + n], adapter=3 if n == 1 else None) for n in range(4)]
    followers = Prefill(rows, PrefixCache(0), max_rows=8)._followers(slots, [0, 1, 2, 3])
    assert followers == {2: (0, len(SYSTEM)), 3: (0, len(SYSTEM))}


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.lists(st.integers(3, 300), min_size=1, max_size=9)), min_size=1, max_size=6
    )
)
@settings(max_examples=25, deadline=None)
def test_each_prompt_gets_what_it_gets_alone(model: Any, parts: list[tuple[int, list[int]]]) -> None:
    prompts = [SYSTEM[:shared] + own for shared, own in parts]
    for prefix_tokens in (0, 400):
        logits, _ = prefilled(model, prompts, prefix_tokens)
        for prompt, alone in zip(prompts, logits, strict=True):
            assert torch.equal(alone, prefilled(model, [prompt])[0][0])
