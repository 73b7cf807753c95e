"""Sampling: the distribution that is drawn from, and that a draw depends on seed, position and its own row alone."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given as hypothesis_gives
from hypothesis import strategies as st
from scipy.stats import chisquare

from nescio.engines.base import Request
from nescio.engines.decode import sampling
from nescio.engines.decode.sampling import bias_of, biased, choose, draw, uniform


@dataclass(frozen=True)
class Draw:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    min_p: float = 0.0


def log_probs(rows: int = 1, vocab: int = 16, seed: int = 0) -> torch.Tensor:
    return (torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 2).log_softmax(-1)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    [
        (1.0, 0, 1.0, 0.0),
        (0.7, 8, 1.0, 0.0),
        (1.3, 0, 0.8, 0.0),
        (1.0, 9, 0.9, 0.0),
        (1.2, 0, 1.0, 0.2),
        (1.5, 7, 0.9, 0.1),
    ],
)
def test_seeded_draws_follow_the_restricted_distribution(
    temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    given, count = log_probs(), 3000
    how = [Draw(temperature, top_p, top_k, seed, min_p) for seed in range(count)]
    drawn = choose(given.expand(count, -1), how, [3] * count)
    expected = _restricted(given[0], temperature, top_k, top_p, min_p)
    counts = torch.bincount(drawn, minlength=16).double()
    assert counts[expected == 0].sum() == 0
    likely = expected > 0
    assert chisquare(counts[likely].numpy(), (expected[likely] * count).numpy()).pvalue > 0.001


def _restricted(given: torch.Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> torch.Tensor:
    """The distribution to draw from, token by token from the likeliest on."""
    probs = (given.double() / temperature).softmax(-1)
    order = [token for token in probs.argsort(descending=True).tolist() if probs[token] >= min_p * probs.max()]
    kept = order[:top_k] if top_k else order
    total, mass, nucleus = float(probs[kept].sum()), 0.0, []
    for token in kept:
        if mass < top_p:
            nucleus.append(token)
        mass += float(probs[token]) / total
    restricted = torch.zeros_like(probs)
    restricted[nucleus] = probs[nucleus]
    return restricted / restricted.sum()


def test_a_draw_depends_on_its_own_row_alone() -> None:
    given = log_probs(6, 3000, seed=1)
    how = [Draw(), Draw(top_p=0.9), Draw(0.0), Draw(2.0, 0.95, 40), Draw(top_k=7), Draw(5.0, 0.99, 2900)]
    for seed in range(40):
        own = [Draw(one.temperature, one.top_p, one.top_k, seed) for one in how]
        together = choose(given, own, [seed] * 6).tolist()
        assert together == [int(choose(given[row : row + 1], own[row : row + 1], [seed])) for row in range(6)]


@pytest.mark.parametrize(
    "how",
    [Draw(0.0), Draw(1e-50), Draw(9e-6, 0.5), Draw(1.0, 1e-50), Draw(1e-5, 1e-9), Draw(1.0, top_k=1), Draw(1e-5)],
)
def test_the_coldest_and_the_narrowest_give_the_likeliest(how: Draw) -> None:
    given = torch.tensor([[0.2, 0.5, 0.3]]).log()
    drawn = {int(choose(given, [Draw(how.temperature, how.top_p, how.top_k, s)], [0])) for s in range(8)}
    assert drawn == {1}


def test_greedy_takes_the_first_of_equals_and_a_token_ruled_out_is_never_drawn() -> None:
    given = torch.tensor([[-torch.inf, 0.5, 0.5, 0.0]]).log()
    assert int(choose(given.nan_to_num(nan=-torch.inf), [Draw(0.0)], [0])) == 1
    drawn = {int(choose(given.nan_to_num(nan=-torch.inf), [Draw(3.0, seed=s)], [0])) for s in range(50)}
    assert drawn == {1, 2}


def test_the_ends_of_the_unit_interval_give_the_first_and_the_last_token_of_any_mass() -> None:
    given = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).log()
    plain: dict[str, Any] = {
        "temperature": torch.ones(1), "top_p": torch.ones(1), "top_k": torch.zeros(1, dtype=torch.long),
        "min_p": torch.zeros(1),
    }  # fmt: skip
    for value, token in ((0.0, 1), (1 - 1e-16, 3)):
        assert draw(given, **plain, uniforms=torch.full((1,), value, dtype=torch.double)).tolist() == [token]


def test_seeds_and_positions_give_different_numbers_and_any_seed_will_do() -> None:
    numbers = {uniform(seed, position) for seed in (-1, 0, 1, (1 << 70) + 5) for position in range(3)}
    assert len(numbers) == 12
    assert all(0 <= number < 1 for number in numbers)
    assert uniform(7, 5) == uniform(7, 5)


def test_bias_and_penalties_are_those_of_openais_formula() -> None:
    given = log_probs(3, 16)
    answers = [[3, 3, 7], [3, 3, 7], []]
    requests = [
        Request("a", presence_penalty=0.5, frequency_penalty=-0.25, logit_bias={3: 2.0, 9: -100.0}),
        Request("a"),
        Request("a", presence_penalty=2.0, logit_bias={0: 1.0}),
    ]
    before = given.clone()
    after = biased(given, [bias_of(one, answer) for one, answer in zip(requests, answers, strict=True)])
    assert torch.equal(given, before), "the distribution that log-probabilities are read from stays"
    for row, (one, answer) in enumerate(zip(requests, answers, strict=True)):
        for token in range(16):
            count = answer.count(token)
            expected = float(given[row, token]) - count * one.frequency_penalty - (count > 0) * one.presence_penalty
            assert float(after[row, token]) == pytest.approx(expected + one.logit_bias.get(token, 0.0), abs=1e-5)


def test_no_bias_brings_back_what_a_schema_forbids() -> None:
    given = torch.tensor([[0.0, -torch.inf]])
    assert int(choose(biased(given, [{0: -100.0, 1: 100.0}]), [Draw(0.0)], [0])) == 0


@hypothesis_gives(
    st.integers(0, 2**16), st.lists(st.tuples(st.floats(0.01, 1), st.integers(0, 60)), min_size=1, max_size=5)
)
def test_ordering_a_few_tokens_first_changes_no_bit(seed: int, own: list[tuple[float, int]]) -> None:
    generator = torch.Generator().manual_seed(seed)
    sharpness = torch.rand(len(own), 1, generator=generator) * 8
    probs = (torch.randn(len(own), 60, generator=generator) * sharpness).softmax(-1)
    top_p, top_k = (torch.tensor(column) for column in zip(*own, strict=True))
    probs[:, 50:] = 0  # what min-p has left out
    whole = torch.stack([_least(*each) for each in zip(probs, top_p.tolist(), top_k.tolist(), strict=True)])
    for few in (4, 1024):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling, "_FEW", few)
            assert torch.equal(sampling._threshold(probs, top_p, top_k)[:, 0], whole)


def _least(probs: torch.Tensor, top_p: float, top_k: int) -> torch.Tensor:
    """The least probability within top-k and then top-p of one row, token by token."""
    ordered = probs.sort(descending=True).values[: top_k or None]
    whole = (ordered if top_k else probs).double().cumsum(0)[-1]
    mass = 0.0
    for number, one in enumerate(ordered):
        if number and mass >= torch.tensor(top_p).double() * whole:
            return ordered[number - 1]
        mass += float(one)
    return ordered[-1]
