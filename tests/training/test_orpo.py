"""ORPO's loss against an independent float64 computation, and where it could break."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nescio.training.orpo import log1mexp, orpo_loss

LOG_P = st.floats(-30, -1e-3)


def reference(chosen: float, rejected: float, beta: float) -> float:
    """Hong et al. 2024, eqs. 4 to 7, from probabilities, in float64."""
    p, q = np.exp(np.float64(chosen)), np.exp(np.float64(rejected))
    log_ratio = (np.log(p) - np.log1p(-p)) - (np.log(q) - np.log1p(-q))
    return float(-np.float64(chosen) + beta * np.logaddexp(0, -log_ratio))


@given(LOG_P, LOG_P, st.floats(0.01, 2))
def test_equals_the_published_formula(chosen: float, rejected: float, beta: float) -> None:
    found = orpo_loss(torch.tensor([chosen]), torch.tensor([rejected]), beta)
    assert float(found.loss) == pytest.approx(reference(chosen, rejected, beta), rel=2e-4, abs=1e-4)


def test_is_the_mean_over_pairs_and_keeps_its_parts() -> None:
    chosen, rejected = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -0.5])
    found = orpo_loss(chosen, rejected, 0.1)
    expected = [reference(c, r, 0.1) for c, r in zip(chosen.tolist(), rejected.tolist(), strict=True)]
    assert float(found.loss) == pytest.approx(sum(expected) / 2, rel=1e-5)
    assert found.nll.tolist() == [1.0, 2.0]
    assert found.chosen_reward.tolist() == pytest.approx([-0.1, -0.2])


@pytest.mark.parametrize("value", [0.0, -1e-12, -1e-6, -100.0])
def test_is_finite_at_the_edges(value: float) -> None:
    chosen = torch.tensor([value], requires_grad=True)
    found = orpo_loss(chosen, torch.tensor([-1.0]), 0.1)
    found.loss.backward()
    assert math.isfinite(float(found.loss.detach()))
    assert torch.isfinite(chosen.grad).all()


def test_turns_away_from_the_rejected() -> None:
    rejected = torch.tensor([-1.0], requires_grad=True)
    orpo_loss(torch.tensor([-1.0]), rejected, 0.1).loss.backward()
    assert rejected.grad.item() > 0, "a likelier rejected answer costs more"


@given(st.floats(-50, -1e-3))
def test_log1mexp(x: float) -> None:
    assert float(log1mexp(torch.tensor(x, dtype=torch.float64))) == pytest.approx(math.log(-math.expm1(x)), abs=1e-9)
