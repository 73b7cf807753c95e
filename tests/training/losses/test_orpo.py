"""ORPO's loss against an independent float64 computation, and where it could break."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import LORA, SETTINGS, UNITS

from nescio.core.errors import NescioError
from nescio.training.batch import Likelihoods
from nescio.training.losses.orpo import log1mexp, orpo
from nescio.training.trainer import fit

LOG_P = st.floats(-30, -1e-3)
Answers = Callable[..., Likelihoods]


def reference(chosen: float, rejected: float, beta: float) -> float:
    """Hong et al. 2024, eqs. 4 to 7, from probabilities, in float64."""
    p, q = np.exp(np.float64(chosen)), np.exp(np.float64(rejected))
    log_ratio = (np.log(p) - np.log1p(-p)) - (np.log(q) - np.log1p(-q))
    return float(-np.float64(chosen) + beta * np.logaddexp(0, -log_ratio))


@given(LOG_P, LOG_P, st.floats(0.01, 2))
def test_equals_the_published_formula(answers: Answers, chosen: float, rejected: float, beta: float) -> None:
    found = orpo.bind(beta=beta)(answers([[chosen], [rejected]]))
    assert found["loss"].item() == pytest.approx(reference(chosen, rejected, beta), rel=1e-6, abs=1e-6)


def test_takes_means_over_tokens_and_keeps_its_parts(answers: Answers) -> None:
    found = orpo.bind(beta=0.1)(answers([[-1.5, -0.5], [-3.0], [-2.0], [-0.4, -0.6]]))
    expected = [reference(c, r, 0.1) for c, r in ((-1.0, -3.0), (-2.0, -0.5))]
    assert found["loss"].tolist() == pytest.approx(expected, rel=1e-5)
    assert found["nll"].tolist() == [1.0, 2.0]
    assert found["chosen_reward"].tolist() == pytest.approx([-0.1, -0.2])
    assert found["accuracy"].tolist() == [1.0, 0.0]


def test_over_the_prompt_the_mean_is_over_all_tokens() -> None:
    tokens = torch.tensor([-4.0, -1.0, -9.0, -6.0, -2.0, -3.0, -9.0])
    in_prompt = torch.tensor([True, False, False, True, False, False, False])
    answer_of = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    of = Likelihoods(tokens=tokens, answer_of=answer_of, in_prompt=in_prompt, answers=4, reference=torch.empty(0))
    assert float(orpo.bind(beta=0.1, nll_over="prompt_and_answer")(of)["nll"].mean()) == pytest.approx(
        (4 + 1 + 6 + 2 + 3) / 5
    )
    assert orpo.bind(beta=0.1)(of)["nll"].tolist() == [1.0, 2.5]


def test_over_the_prompt_needs_the_prompts(make_model: Callable[..., Any], tmp_path: Path) -> None:
    loss, model = orpo.bind(beta=0.1, nll_over="prompt_and_answer"), make_model("llama")
    settings = replace(SETTINGS, epochs=1, batch_size=len(UNITS), lora=replace(LORA, dropout=0.0))
    with pytest.raises(
        NescioError, match=r"prompts, which are not scored; give TrainingSettings\(prompt_wanted=True\)"
    ):
        fit(model, UNITS, loss=loss, settings=settings, work=tmp_path / "without")
    total, tokens = 0.0, 0
    for (example,) in UNITS:  # by a plain forward, in fp64
        ids = torch.tensor([example.group.prompt + example.group.continuations[0].ids])
        with torch.no_grad():
            scores = make_model("llama")(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        total -= float(scores.gather(1, ids[0, 1:, None]).sum())
        tokens += ids.shape[1] - 1
    settings = replace(settings, prompt_wanted=True)
    done = fit(make_model("llama"), UNITS, loss=loss, settings=settings, work=tmp_path / "with")
    assert done.log[0]["nll"] == pytest.approx(total / tokens, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, -1e-12, -1e-6, -100.0])
def test_is_finite_at_the_edges(answers: Answers, value: float) -> None:
    of = answers([[value], [-1.0]])
    loss = orpo.bind(beta=0.1)(of)["loss"].sum()
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert torch.isfinite(of.tokens.grad).all()


def test_turns_away_from_the_rejected(answers: Answers) -> None:
    of = answers([[-1.0], [-1.0]])
    orpo.bind(beta=0.1)(of)["loss"].sum().backward()
    assert of.tokens.grad[1].item() > 0, "a likelier rejected answer costs more"


@given(st.floats(-50, -1e-3))
def test_log1mexp(x: float) -> None:
    assert float(log1mexp(torch.tensor(x, dtype=torch.float64))) == pytest.approx(math.log(-math.expm1(x)), abs=1e-9)
