"""Who is combined with whom, what is chosen, and what is written back; without vLLM."""

from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from nescio.core.guidance import guide
from nescio.engines.vllm.branch_rows import Row, teams
from nescio.engines.vllm.token_choice import choose, draw, told, uniform


def pair(key: str, first: int, second: int, position: int = 0, **how: Any) -> dict[int, tuple[Row, int]]:
    return {first: (Row(key, "positive", **how), position), second: (Row(key, "negative", **how), position)}


def logits(rows: int = 6, vocab: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 2


def test_each_pair_gets_its_own_guided_token_on_both_of_its_rows() -> None:
    given = logits(rows=8)
    rows = pair("a", 4, 1, scale=3.0, space="log") | pair("b", 2, 5, scale=1.5, space="prob", plausibility=0.05)
    rows |= pair("d", 0, 6, scale=4.0, adaptive=True) | {3: (Row("c", "alone"), 7)}
    after = choose(given.clone(), teams(rows))
    expected = {
        (4, 1): guide(given[[4]], given[[1]], 3.0, "log"),
        (2, 5): guide(given[[2]], given[[5]], 1.5, "prob", 0.05),
        (0, 6): guide(given[[0]], given[[6]], 4.0, "prob", adaptive=True),
        (3, 3): guide(given[[3]]),
    }
    for (first, second), log_probs in expected.items():
        token = int(log_probs.argmax())
        assert int(after[first].argmax()) == int(after[second].argmax()) == token
        read = torch.tensor([told(float(value)) for value in after[first]])
        assert torch.allclose(read, log_probs[0], atol=1e-6)
    assert torch.equal(after[7], given[7]), "a row of no team was touched"


@pytest.mark.parametrize(
    "rows",
    [
        {0: (Row("a", "positive", 3.0), 0)},
        {1: (Row("a", "negative", 3.0), 0)},
        {0: (Row("a", "positive", 3.0), 4), 1: (Row("a", "negative", 3.0), 3)},
        {0: (Row("a", "positive", 3.0), -2), 1: (Row("a", "negative", 3.0), -2)},
        {0: (Row("a", "positive", 3.0), 0), 1: (Row("b", "negative", 3.0), 0)},
    ],
)
def test_rows_that_are_not_in_step_are_left_to_the_scheduler(rows: dict[int, tuple[Row, int]]) -> None:
    given = logits()
    assert torch.equal(choose(given.clone(), teams(rows)), given)


def test_a_continuation_that_is_scored_is_emitted_with_its_log_probability_even_if_ruled_out() -> None:
    given = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    expected = guide(given[:1], given[1:], 3.0, "prob")
    assert float(expected[0, 1]) == -torch.inf
    for position, token in enumerate((1, 2, 0)):
        after = choose(given.clone(), teams(pair("a", 0, 1, position, scale=3.0, forced=(1, 2, 0))))
        assert int(after[0].argmax()) == int(after[1].argmax()) == token
        assert told(float(after[0, token])) == pytest.approx(float(expected[0, token]), abs=1e-6)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 8, 1.0), (1.3, 0, 0.8), (1.0, 9, 0.9)]
)
@pytest.mark.parametrize("space", ["log", "prob"])
def test_seeded_draws_follow_the_guided_distribution(temperature: float, top_k: int, top_p: float, space: Any) -> None:
    given, count = logits(2, 16), 2000
    how = {"scale": 1.5, "space": space, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    rows = {}
    for seed in range(count):
        rows |= pair(str(seed), 2 * seed, 2 * seed + 1, position=3, seed=seed, **how)
    after = choose(given.repeat(count, 1), teams(rows))
    drawn = after[::2].argmax(-1)
    assert torch.equal(drawn, after[1::2].argmax(-1))
    expected = _restricted(guide(given[:1], given[1:], 1.5, space)[0], temperature, top_k, top_p)
    counts = torch.bincount(drawn, minlength=16).double()
    assert counts[expected == 0].sum() == 0
    likely = expected > 0
    assert chisquare(counts[likely].numpy(), (expected[likely] * count).numpy()).pvalue > 0.001


def _restricted(log_probs: torch.Tensor, temperature: float, top_k: int, top_p: float) -> torch.Tensor:
    """The distribution to draw from, token by token from the likeliest on."""
    probs = (log_probs.double() / temperature).softmax(-1)
    order = probs.argsort(descending=True).tolist()
    kept = order[:top_k] if top_k else order
    total, mass, nucleus = float(probs[kept].sum()), 0.0, []
    for token in kept:
        if mass < top_p:
            nucleus.append(token)
        mass += float(probs[token]) / total
    restricted = torch.zeros_like(probs)
    restricted[nucleus] = probs[nucleus]
    return restricted / restricted.sum()


def test_a_draw_depends_on_the_row_alone() -> None:
    log_probs = logits(3, 50).log_softmax(-1)
    same = (torch.full((3,), 0.9), torch.full((3,), 0.95), torch.tensor([0, 20, 5]))
    uniforms = torch.tensor([uniform(seed, 4) for seed in (1, 2, 3)], dtype=torch.double)
    together = draw(log_probs, *same, uniforms)
    alone = [draw(log_probs[i : i + 1], *(t[i : i + 1] for t in same), uniforms[i : i + 1]) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_the_ends_of_the_unit_interval_give_the_first_and_the_last_token_of_any_mass() -> None:
    log_probs = torch.tensor([[0.25, 0.0, 0.75]]).log()
    plain = (torch.ones(1), torch.ones(1), torch.zeros(1, dtype=torch.long))
    assert draw(log_probs, *plain, torch.zeros(1, dtype=torch.double)).tolist() == [2]
    assert draw(log_probs, *plain, torch.full((1,), 1 - 1e-16, dtype=torch.double)).tolist() == [0]


@pytest.mark.parametrize("how", [{"temperature": 1e-50}, {"temperature": 1.0, "top_p": 1e-50}])
def test_the_coldest_and_the_narrowest_give_the_likeliest(how: dict[str, Any]) -> None:
    given = logits(2)
    after = choose(given.clone(), teams(pair("a", 0, 1, scale=2.0, **how)))
    assert int(after[0].argmax()) == int(guide(given[:1], given[1:], 2.0, "prob").argmax())


def test_seeds_and_places_give_different_numbers_and_any_seed_will_do() -> None:
    numbers = {uniform(seed, position) for seed in (-1, 0, 1, (1 << 70) + 5) for position in range(3)}
    assert len(numbers) == 12
    assert all(0 <= number < 1 for number in numbers)
    assert uniform(7, 5) == uniform(7, 5)


def test_a_row_survives_vllms_parameters_and_anything_else_is_refused() -> None:
    class Params:
        extra_args: Any = Row("a", "negative", 2.0, "log", seed=3, forced=(1, 2)).extra_args()

    params = Params()
    assert Row.of(params) == Row("a", "negative", 2.0, "log", seed=3, forced=(1, 2))
    params.extra_args = None
    assert Row.of(params) is None
    params.extra_args = {"nescio": {"key": "a", "rolle": "positive"}}
    with pytest.raises(ValueError, match="not what nescio writes"):
        Row.of(params)
