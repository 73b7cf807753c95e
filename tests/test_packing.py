"""Packed rows against separate ones: the same log-probabilities, the same gradients, in any order."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nescio.packing import Branch, Group, branch_means, by_budget, log_probs, pack

GROUPS = [
    Group([5, 6, 7, 8], [Branch([9, 10, 11]), Branch([12, 13])]),
    Group([20], [Branch([21, 22, 23, 24]), Branch([25])]),
    Group([5, 6, 30], [Branch([31, 32], [False, True])]),
]


def separate(model: Any, group: Group) -> list[torch.Tensor]:
    """Each branch after its prompt, in a row of its own."""
    rows = []
    for branch in group.branches:
        ids = torch.tensor([group.prompt + branch.ids])
        all_logs = model(input_ids=ids).logits[0].float().log_softmax(-1)
        at = torch.arange(len(group.prompt) - 1, ids.shape[1] - 1)
        own = all_logs[at, torch.tensor(branch.ids)]
        rows.append(own if branch.wanted is None else own[torch.tensor(branch.wanted)])
    return rows


@pytest.mark.parametrize("style", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_equals_separate(make_model: Callable[..., Any], style: str, attention: str) -> None:
    model = make_model(style, attn_implementation=attention)
    packed = log_probs(model, pack(GROUPS))
    expected = torch.cat([row for group in GROUPS for row in separate(model, group)])
    torch.testing.assert_close(packed, expected, rtol=1e-4, atol=1e-5)


def test_order_of_groups_changes_nothing(make_model: Callable[..., Any]) -> None:
    model = make_model("llama")
    one = branch_means(log_probs(model, pack(GROUPS)), pack(GROUPS))
    turned = GROUPS[::-1]
    other = branch_means(log_probs(model, pack(turned)), pack(turned))
    torch.testing.assert_close(one, torch.cat([other[3:5], other[1:3], other[0:1]]), rtol=1e-4, atol=1e-5)


def test_gradients_equal_separate_ones(make_model: Callable[..., Any]) -> None:
    packed_model, plain_model = make_model("llama"), make_model("llama")
    (-log_probs(packed_model, pack(GROUPS[:2])).sum()).backward()
    (-torch.cat([row for group in GROUPS[:2] for row in separate(plain_model, group)]).sum()).backward()
    for (name, one), (_, other) in zip(packed_model.named_parameters(), plain_model.named_parameters(), strict=True):
        torch.testing.assert_close(
            one.grad, other.grad, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_branches_do_not_see_each_other() -> None:
    mask = pack(GROUPS[:1]).mask[0, 0]
    chosen, rejected = slice(4, 7), slice(7, 9)
    assert not mask[rejected, chosen].any()
    assert mask[rejected, :4].all()
    assert pack(GROUPS[:1]).position_ids[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 5]


def test_means_are_over_the_branch() -> None:
    packed = pack(GROUPS[:1])
    means = branch_means(torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0]), packed)
    assert means.tolist() == [2.0, 15.0]


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 100))
def test_rows_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    groups = [Group([1] * length, []) for length in lengths]
    rows = by_budget(groups, budget)
    assert [number for row in rows for number in row] == list(range(len(groups)))
    assert all(len(row) == 1 or sum(groups[n].tokens for n in row) <= budget for row in rows)
