"""The baselines' losses against the published formulas, written out again, and the way they pull."""

import math
from collections.abc import Callable

import pytest
import torch

from nescio.training.batch import Likelihoods, Loss
from nescio.training.losses.dpo import dpo
from nescio.training.losses.flat import flat
from nescio.training.losses.gradient_ascent import gradient_ascent
from nescio.training.losses.likelihood import likelihood
from nescio.training.losses.npo import npo
from nescio.training.losses.simnpo import simnpo

Answers = Callable[..., Likelihoods]
PAIRS = [[-1.0, -2.0], [-0.5, -0.5, -1.0], [-3.0], [-0.1]]
REFERENCE = [-2.5, -1.0, -2.0, -0.4]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_dpo(answers: Answers) -> None:
    found = dpo.bind(beta=0.2)(answers(PAIRS, REFERENCE))
    margins = [0.2 * ((-3.0 + 2.5) - (-2.0 + 1.0)), 0.2 * ((-3.0 + 2.0) - (-0.1 + 0.4))]
    assert found["margin"].tolist() == pytest.approx(margins)
    assert found["loss"].tolist() == pytest.approx([-log_sigmoid(margin) for margin in margins])


def test_npo(answers: Answers) -> None:
    found = npo.bind(beta=0.2)(answers(PAIRS, REFERENCE))["loss"]
    ratios = [sum(answer) - before for answer, before in zip(PAIRS, REFERENCE, strict=True)]
    assert found.tolist() == pytest.approx([-2 / 0.2 * log_sigmoid(-0.2 * ratio) for ratio in ratios])


def test_npo_becomes_gradient_ascent_as_beta_falls(answers: Answers) -> None:
    of = answers(PAIRS, REFERENCE)
    npo.bind(beta=1e-6)(of)["loss"].sum().backward()
    assert of.tokens.grad.tolist() == pytest.approx([1.0] * len(of.tokens), rel=1e-5)


def test_simnpo(answers: Answers) -> None:
    found = simnpo.bind(beta=2.5)(answers(PAIRS))["loss"]
    means = [sum(answer) / len(answer) for answer in PAIRS]
    assert found.tolist() == pytest.approx([-2 / 2.5 * log_sigmoid(-2.5 * mean) for mean in means])


def test_flat(answers: Answers) -> None:
    found = flat(answers(PAIRS))["loss"]
    p = [sum(map(math.exp, answer)) / len(answer) for answer in PAIRS]
    expected = [math.tanh(p[1]) / 2 - math.tanh(p[0]) / 2, math.tanh(p[3]) / 2 - math.tanh(p[2]) / 2]
    assert found.tolist() == pytest.approx(expected)


def test_likelihood_and_ascent_are_means_over_tokens(answers: Answers) -> None:
    of = answers(PAIRS)
    mean = sum(map(sum, PAIRS)) / sum(map(len, PAIRS))
    assert float(likelihood(of)["loss"].mean().detach()) == pytest.approx(-mean)
    assert float(gradient_ascent(of)["loss"].mean().detach()) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("loss", "signs"),
    [
        (likelihood, [-1, -1]),
        (dpo.bind(beta=0.1), [-1, 1]),
        (flat, [-1, 1]),
        (npo.bind(beta=0.1), [1, 1]),
        (simnpo.bind(beta=2.5), [1, 1]),
        (gradient_ascent, [1, 1]),
    ],
    ids=["sft", "dpo", "flat", "npo", "simnpo", "ascent"],
)
def test_which_answer_gains(answers: Answers, loss: Loss, signs: list[int]) -> None:
    of = answers([[-1.0], [-2.0]], [-1.5, -1.5])
    loss(of)["loss"].mean().backward()
    assert torch.sign(of.tokens.grad).tolist() == signs
