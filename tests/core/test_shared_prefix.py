"""Packed rows against separate ones: the same log-probabilities, the same gradients, in any order."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask

from nescio.core import shared_prefix
from nescio.core.shared_prefix import (
    Continuation,
    Group,
    Packed,
    apart,
    by_budget,
    log_probs,
    pack,
    unpackable,
    visible,
)

GROUPS = [
    Group([5, 6, 7, 8, 9, 10], [Continuation([9, 10, 11]), Continuation([12, 13])]),
    Group([20], [Continuation([21, 22, 23, 24]), Continuation([25])]),
    Group([5, 6, 30], [Continuation([31, 32], [False, True])]),
]
SLIDING = {
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "gemma2": {"sliding_window": 4, "head_dim": 8},
    "gemma3": {"sliding_window": 4, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
}
MODELS = [("llama", {}), ("qwen3", {"head_dim": 8}), ("gpt2", {}), *SLIDING.items()]


def separate(model: Any, group: Group) -> list[torch.Tensor]:
    """Each branch after its prompt, in a row of its own, without a word from the code that is tested."""
    rows = []
    for branch in group.continuations:
        ids = torch.tensor([group.prompt + branch.ids])
        all_logs = model(input_ids=ids).logits[0].float().log_softmax(-1)
        at = torch.arange(len(group.prompt) - 1, ids.shape[1] - 1)
        own = all_logs[at, torch.tensor(branch.ids)]
        rows.append(own if branch.wanted is None else own[torch.tensor(branch.wanted)])
    return rows


@pytest.mark.parametrize(("style", "changes"), MODELS, ids=[style for style, _ in MODELS])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_equals_separate(
    make_model: Callable[..., Any], style: str, changes: dict[str, Any], attention: str
) -> None:
    if (style, attention) == ("gemma2", "sdpa"):
        pytest.skip("Gemma 2 caps its attention scores, which SDPA can't")
    model = make_model(style, attn_implementation=attention, **changes)
    assert unpackable(model) is None
    expected = torch.cat([row for group in GROUPS for row in separate(model, group)])
    torch.testing.assert_close(log_probs(model, pack(GROUPS)), expected, rtol=1e-4, atol=1e-5)
    in_rows = torch.cat([log_probs(model, row) for row in apart(GROUPS)])
    torch.testing.assert_close(in_rows, expected, rtol=1e-4, atol=1e-5)


def test_a_window_counts_positions_not_places(make_model: Callable[..., Any]) -> None:
    # The second branch starts 7 places after the end of its prompt, and still sees as much of it as the first.
    mask = visible(pack([Group([1] * 6, [Continuation([2] * 7), Continuation([3])])]), window=4)[0, 0]
    assert mask[13].nonzero().flatten().tolist() == [3, 4, 5, 13]


def test_a_window_that_is_missed_is_wrong(make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("mistral", sliding_window=4)
    right = log_probs(model, pack(GROUPS))
    monkeypatch.setattr(shared_prefix, "_attention_mask", lambda core, packed: visible(packed))
    assert not torch.allclose(log_probs(model, pack(GROUPS)), right, atol=1e-2)


@pytest.mark.parametrize(("style", "reason"), [("bloom", "position_ids"), ("llama", "layers of chunked_attention")])
def test_models_that_cannot_be_packed_are_told(make_model: Callable[..., Any], style: str, reason: str) -> None:
    model = make_model(style)
    if style == "llama":
        model.config.layer_types = ["full_attention", "chunked_attention"]
    assert reason in str(unpackable(model))


def test_a_model_that_ignores_its_mask_is_found_out(make_model: Callable[..., Any]) -> None:
    model = make_model("llama")
    heedful = model.model.forward
    model.model.forward = lambda *args, **kwargs: heedful(*args, **kwargs | {"attention_mask": None})
    assert unpackable(model) == "it does not heed a 4-D mask"
    assert not model.training


def test_apart_needs_no_mask(make_model: Callable[..., Any]) -> None:
    model = make_model("bloom")
    expected = torch.cat([row for group in GROUPS for row in separate(model, group)])
    in_rows = torch.cat([log_probs(model, row) for row in apart(GROUPS)])
    torch.testing.assert_close(in_rows, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [lambda groups: [pack(groups)], apart], ids=["packed", "apart"])
def test_prompts_are_asked_for_once(make_model: Callable[..., Any], layout: Callable[..., list[Packed]]) -> None:
    model, group = make_model("llama"), replace(GROUPS[0], prompt_wanted=True)
    rows = layout([group])
    found = torch.cat([log_probs(model, row)[row.in_prompt] for row in rows])
    alone = separate(model, Group(group.prompt[:1], [Continuation(group.prompt[1:])]))
    torch.testing.assert_close(found, alone[0], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def llama(make_model: Callable[..., Any]) -> Any:
    return make_model("llama")


@given(st.permutations(range(len(GROUPS))), st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_order_and_row_length_change_no_pairs_log_probs(llama: Any, order: list[int], budget: int) -> None:
    expected = [torch.cat(separate(llama, group)) for group in GROUPS]
    groups = [GROUPS[place] for place in order]
    for row in by_budget(groups, budget):
        wanted = [expected[order[number]] for number in row]
        found = log_probs(llama, pack([groups[number] for number in row]))
        torch.testing.assert_close(found, torch.cat(wanted), rtol=1e-4, atol=1e-5)


def test_gradients_equal_separate_ones(make_model: Callable[..., Any]) -> None:
    packed_model, plain_model = make_model("llama"), make_model("llama")
    (-log_probs(packed_model, pack(GROUPS[:2])).sum()).backward()
    (-torch.cat([row for group in GROUPS[:2] for row in separate(plain_model, group)]).sum()).backward()
    for (name, one), (_, other) in zip(packed_model.named_parameters(), plain_model.named_parameters(), strict=True):
        torch.testing.assert_close(
            one.grad, other.grad, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_branches_do_not_see_each_other() -> None:
    packed = pack(GROUPS[:1])
    mask, chosen, rejected = visible(packed)[0, 0], slice(6, 9), slice(9, 11)
    assert not mask[rejected, chosen].any()
    assert mask[rejected, :6].all()
    assert packed.position_ids[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7]


@given(st.lists(st.tuples(st.integers(1, 6), st.lists(st.integers(1, 4), max_size=3)), min_size=1, max_size=4))
def test_flex_attention_gets_the_same_mask(shapes: list[tuple[int, list[int]]]) -> None:
    packed = pack(
        [Group([1] * prompt, [Continuation([2] * length) for length in lengths]) for prompt, lengths in shapes]
    )
    n = len(packed.group_of)
    for window in (None, 3):
        mask = create_mask(shared_prefix._sees(packed, window), 1, 1, n, n, device="cpu")
        assert torch.equal(mask, visible(packed, window))


@pytest.mark.parametrize("style", ["llama", pytest.param("gemma3", marks=pytest.mark.slow)])
def test_flex_attention_equals_sdpa(make_model: Callable[..., Any], style: str) -> None:
    # On a CPU FlexAttention has no backward pass, and wants heads of 16 dimensions at least.
    changes = {"head_dim": 16} | ({**SLIDING["gemma3"], "head_dim": 16} if style == "gemma3" else {})
    model = make_model(style, **changes)
    with torch.no_grad():
        expected = log_probs(model, pack(GROUPS))
        model.set_attn_implementation("flex_attention")
        torch.testing.assert_close(log_probs(model, pack(GROUPS)), expected, rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 100))
def test_rows_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    groups = [Group([1] * length, []) for length in lengths]
    rows = by_budget(groups, budget)
    assert [number for row in rows for number in row] == list(range(len(groups)))
    assert all(len(row) == 1 or sum(groups[n].tokens for n in row) <= budget for row in rows)
