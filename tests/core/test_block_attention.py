"""Attention group by group against attention over the whole row: the same numbers and gradients, under any mask."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from nescio.core import block_attention
from nescio.core.block_attention import attention, blocks, blockwise
from nescio.core.shared_prefix import Continuation, Group, log_probs, pack, visible

LAYER = SimpleNamespace(num_key_value_groups=3, is_causal=True, training=False)
GROUPS = [
    Group([5, 6, 7, 8, 9, 10], [Continuation([9, 10, 11]), Continuation([12, 13])]),
    Group([20], [Continuation([21, 22, 23, 24]), Continuation([25])]),
    Group([5, 6, 30], [Continuation([31, 32], [False, True])]),
]
shapes = st.lists(
    st.tuples(st.integers(1, 6), st.lists(st.integers(1, 4), min_size=1, max_size=3)), min_size=1, max_size=5
)


def row_of(shape: list[tuple[int, list[int]]]) -> Any:
    return pack([Group([1] * prompt, [Continuation([2] * n) for n in own]) for prompt, own in shape])


def projected(n: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries of six heads, keys and values of two, of a row of n tokens."""
    torch.manual_seed(n)
    return [torch.randn(1, heads, n, 8, dtype=dtype, requires_grad=True) for heads in (6, 2, 2)]


def with_gradients(function: Any, given: list[Tensor], mask: Tensor, scaling: float | None) -> list[Tensor]:
    out = function(LAYER, *given, mask, scaling=scaling)[0]
    weights = torch.linspace(-1, 1, out.numel()).view_as(out).to(out.dtype)
    return [out, *torch.autograd.grad((out * weights).sum(), given)]


@pytest.mark.parametrize("short", [256, 0], ids=["padded", "one after the other"])
@settings(deadline=None, max_examples=30)
@given(shape=shapes, window=st.sampled_from([None, 3]), scaling=st.sampled_from([None, 0.3]))
def test_groups_apart_give_what_the_whole_row_gives(
    short: int, shape: list[tuple[int, list[int]]], window: int | None, scaling: float | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_attention, "_SHORT", short)
        row = row_of(shape)
        mask, given_ = visible(row, window), projected(len(row.group_of))
        own = with_gradients(attention, given_, mask, scaling)
    for one, other in zip(own, with_gradients(sdpa_attention_forward, given_, mask, scaling), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(shape=shapes)
def test_blocks_are_the_groups(shape: list[tuple[int, list[int]]]) -> None:
    assert blocks(visible(row_of(shape))) == [prompt + sum(own) for prompt, own in shape]


def test_what_crosses_a_border_joins_blocks() -> None:
    mask = visible(row_of([(2, [1]), (2, [2]), (1, [1])]))
    assert blocks(mask) == [3, 4, 2]
    later, earlier = mask.clone(), mask.clone()
    later[..., 4, 1] = True  # a later row sees an earlier group
    earlier[..., 1, 4] = True  # an earlier row sees a later group
    assert blocks(later) == blocks(earlier) == [7, 2]


@pytest.mark.parametrize(
    "mask",
    [
        torch.zeros(1, 1, 4, 4),  # numbers to add
        torch.ones(2, 1, 4, 4, dtype=torch.bool),  # two rows
        torch.ones(1, 1, 1, 4, dtype=torch.bool),  # a step over a cache
        torch.ones(4, 4, dtype=torch.bool).tril()[None, None],  # one block
        None,
    ],
)
def test_any_other_mask_is_left_to_transformers(mask: Tensor | None) -> None:
    rows, queries = (1, 4) if mask is None else (mask.shape[0], mask.shape[2])
    query, key, value = (torch.randn(rows, heads, n, 8) for heads, n in ((6, queries), (2, 4), (2, 4)))
    own, other = (f(LAYER, query, key, value, mask)[0] for f in (attention, sdpa_attention_forward))
    assert torch.equal(own, other)


def test_in_bf16_the_shares_are_made_in_fp32() -> None:
    row = row_of([(6, [3, 3]), (5, [4])])
    mask, given_ = visible(row), projected(len(row.group_of), torch.bfloat16)
    exact = sdpa_attention_forward(LAYER, *(each.detach().double() for each in given_), mask)[0]
    out = attention(LAYER, *given_, mask)[0].detach()
    assert out.dtype == torch.bfloat16
    assert float((out - exact).abs().mean()) < 0.01


@pytest.mark.parametrize(("style", "changes"), [("llama", {}), ("gpt2", {}), ("mistral", {"sliding_window": 4})])
def test_a_model_computes_the_same_and_has_its_attention_back(
    make_model: Callable[..., Any], style: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(style, attn_implementation="sdpa", **changes)
    seen = list[list[int]]()
    monkeypatch.setattr(block_attention, "blocks", lambda mask: seen.append(blocks(mask)) or seen[-1])
    expected = log_probs(model, pack(GROUPS))
    assert not seen
    with blockwise(model):
        torch.testing.assert_close(log_probs(model, pack(GROUPS)), expected, rtol=1e-4, atol=1e-5)
    assert seen == [[11, 6, 5]], "once for all layers"
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("style", ["mistral", "gemma3"])
def test_a_row_of_one_answer_keeps_its_window(make_model: Callable[..., Any], style: str) -> None:
    own = {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]} if style == "gemma3" else {}
    model = make_model(style, attn_implementation="sdpa", sliding_window=4, **own)
    row = pack([Group([5, 6, 7, 8, 9, 10, 11], [Continuation([9, 10, 11, 12, 13])])])
    expected = log_probs(model, row)
    with blockwise(model):
        torch.testing.assert_close(log_probs(model, row), expected)


def test_uneven_groups_are_not_padded() -> None:
    even, uneven = (
        block_attention._plan(visible(row_of(shape))) for shape in ([(4, [2])] * 3, [(40, [9]), *[(1, [1])] * 9])
    )
    assert even is not None and even.padding is not None
    assert uneven is not None and uneven.padding is None


def test_the_prompt_and_its_first_continuation_need_no_mask() -> None:
    row = row_of([(6, [3, 2, 4]), (300, [5])])
    plan, windowed = block_attention._plan(visible(row)), block_attention._plan(visible(row, 4))
    assert plan is not None and (plan.sizes, plan.causal, plan.padding) == ([15, 305], [9, 305], None)
    assert windowed is not None and windowed.causal == [4, 4], "as far as the window hides nothing"


def test_a_cap_of_the_scores_is_refused_as_by_transformers() -> None:
    row = row_of([(6, [3, 3]), (5, [4])])
    with pytest.raises(ValueError, match="softcap"):
        attention(LAYER, *projected(len(row.group_of)), visible(row), softcap=30.0)


def test_a_model_of_another_attention_keeps_it(make_model: Callable[..., Any]) -> None:
    model = make_model("llama", attn_implementation="eager")
    with blockwise(model):
        assert model.config._attn_implementation == "eager"
