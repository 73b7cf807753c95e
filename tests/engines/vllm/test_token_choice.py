"""Who is combined with whom, what is chosen, and what is written back; without vLLM."""

import json
from typing import Any

import pytest
import torch

from nescio.core.guidance import Guidance
from nescio.core.guide import guide
from nescio.engines.decode.sampling import choose
from nescio.engines.vllm.branch_rows import BranchRow, rows_in_step
from nescio.engines.vllm.token_choice import choose_tokens, log_probability


def row(request: str, role: Any, how: Guidance | None = None, **sampling: Any) -> BranchRow:
    return BranchRow(request=request, role=role, guidance=how or Guidance(), **sampling)


def pair(
    request: str, first: int, second: int, position: int = 0, *, how: Guidance | None = None, **sampling: Any
) -> dict[int, tuple[BranchRow, int]]:
    return {
        number: (row(request, role, how, **sampling), position)
        for number, role in ((first, "positive"), (second, "negative"))
    }


def logits(rows: int = 6, vocab: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 2


def test_each_pair_gets_its_own_guided_token_on_both_of_its_rows() -> None:
    given = logits(rows=8)
    log, plausible, adaptive = Guidance(3.0, "log"), Guidance(1.5, plausibility=0.05), Guidance(4.0, adaptive=True)
    rows = pair("a", 4, 1, how=log) | pair("b", 2, 5, how=plausible) | pair("d", 0, 6, how=adaptive)
    rows |= {3: (row("c", "alone"), 7)}
    after = choose_tokens(given.clone(), rows_in_step(rows))
    expected = {
        (4, 1): guide(given[[4]], given[[1]], log),
        (2, 5): guide(given[[2]], given[[5]], plausible),
        (0, 6): guide(given[[0]], given[[6]], adaptive),
        (3, 3): guide(given[[3]]),
    }
    for (first, second), log_probs in expected.items():
        token = int(log_probs.argmax())
        assert int(after[first].argmax()) == int(after[second].argmax()) == token
        read = torch.tensor([log_probability(float(value)) for value in after[first]])
        assert torch.allclose(read, log_probs[0], atol=1e-6)
    assert torch.equal(after[7], given[7]), "another row was changed"


@pytest.mark.parametrize(
    "rows",
    [
        {0: (row("a", "positive", Guidance(3.0)), 0)},
        {1: (row("a", "negative", Guidance(3.0)), 0)},
        {0: (row("a", "positive", Guidance(3.0)), 4), 1: (row("a", "negative", Guidance(3.0)), 3)},
        {0: (row("a", "positive", Guidance(3.0)), -2), 1: (row("a", "negative", Guidance(3.0)), -2)},
        {0: (row("a", "positive", Guidance(3.0)), 0), 1: (row("b", "negative", Guidance(3.0)), 0)},
    ],
)
def test_rows_that_are_not_in_step_are_left_to_the_scheduler(rows: dict[int, tuple[BranchRow, int]]) -> None:
    given = logits()
    assert torch.equal(choose_tokens(given.clone(), rows_in_step(rows)), given)


def test_a_continuation_that_is_scored_is_emitted_with_its_log_probability_even_if_ruled_out() -> None:
    given = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    expected = guide(given[:1], given[1:], scale=3.0, space="prob")
    assert float(expected[0, 1]) == -torch.inf
    for position, token in enumerate((1, 2, 0)):
        after = choose_tokens(
            given.clone(), rows_in_step(pair("a", 0, 1, position, how=Guidance(3.0), forced=(1, 2, 0)))
        )
        assert int(after[0].argmax()) == int(after[1].argmax()) == token
        assert log_probability(float(after[0, token])) == pytest.approx(float(expected[0, token]), abs=1e-6)


def test_sampled_tokens_are_those_of_every_other_engine() -> None:
    given, how = logits(vocab=50), Guidance(2.0, "log")
    own = {"temperature": 1.5, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "seed": 7}
    after = choose_tokens(given.clone(), rows_in_step(pair("a", 0, 1, 4, how=how, **own)))
    alone = choose(guide(given[:1], given[1:2], how), [row("a", "positive", **own)], [4])
    assert [int(after[0].argmax()), int(after[1].argmax())] == [int(alone)] * 2


def test_a_bias_is_added_to_the_guided_distribution() -> None:
    given, how = logits(), Guidance(2.0, "log")
    log_probs = guide(given[:1], given[1:2], how)
    log_probs[0, 5] += 40
    after = choose_tokens(given.clone(), rows_in_step(pair("a", 0, 1, how=how, logit_bias=((5, 40.0),))))
    assert [int(after[0].argmax()), int(after[1].argmax())] == [int(log_probs.argmax())] * 2 == [5, 5]


def test_a_row_survives_vllms_parameters_and_anything_else_is_refused() -> None:
    class Params:
        extra_args: Any = None

    params, own = (
        Params(),
        row("a", "negative", Guidance(2.0, "log", adaptive=True), seed=3, forced=(1, 2), logit_bias=((4, 0.5),)),
    )
    assert BranchRow.of(params) is None
    params.extra_args = json.loads(json.dumps(own.extra_args()))
    assert BranchRow.of(params) == own
    good = own.extra_args()["nescio"]
    for wrong in ({"request": "a", "rolle": "positive"}, good | {"guidance": {"scale": -1}}, good | {"guidance": 3}):
        params.extra_args = {"nescio": wrong}
        with pytest.raises(ValueError, match="not what nescio writes"):
            BranchRow.of(params)
