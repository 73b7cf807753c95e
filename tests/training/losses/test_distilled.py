"""Losses that distil the model from itself, and RMU, against the published formulas in float64."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nescio.core.shared_prefix import Continuation, Group
from nescio.core.top_tokens import TopTokens
from nescio.training.batch import Example, Likelihoods, lay_out, likelihoods
from nescio.training.losses.duet import duet, prompted
from nescio.training.losses.registry import open_loss
from nescio.training.losses.rmu import rmu
from nescio.training.losses.shred import demoted, shred
from nescio.training.losses.undial import lowered, undial
from nescio.training.reference import with_targets

RNG = np.random.default_rng(0)
TEACHER, STUDENT = RNG.normal(0, 2, (5, 12)), RNG.normal(0, 2, (5, 12))  # logits of two answers: three tokens and two
TOKENS, ANSWER_OF = np.array([3, 0, 7, 7, 11]), np.array([0, 0, 0, 1, 1])


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(q)), 0).sum(-1))


def by_answer(values: np.ndarray) -> list[float]:
    return [float(values[answer == ANSWER_OF].mean()) for answer in (0, 1)]


def student(values: torch.Tensor) -> Likelihoods:
    """A model whose logits are STUDENT, with all of a teacher's values as targets."""
    logits = torch.tensor(STUDENT, requires_grad=True)
    ids = torch.arange(values.shape[1]).expand(len(values), -1)
    return Likelihoods(
        tokens=torch.zeros(len(TOKENS), dtype=torch.float64), answer_of=torch.tensor(ANSWER_OF),
        in_prompt=torch.zeros(len(TOKENS), dtype=torch.bool), answers=2, reference=torch.empty(0),
        targets=TopTokens(ids, values), logits=logits,
    )  # fmt: skip


def taught(teacher: Any, beta: float) -> torch.Tensor:
    """The targets of both answers, each made by itself."""
    parts = [teacher(torch.tensor(TEACHER[n == ANSWER_OF]), torch.tensor(TOKENS[n == ANSWER_OF]), beta) for n in (0, 1)]
    return torch.cat(parts)


@pytest.mark.parametrize("beta", [0.0, 3.0, 10.0])
def test_undial_is_the_published_cross_entropy_less_what_does_not_change(beta: float) -> None:
    adjusted = TEACHER.copy()
    adjusted[np.arange(5), TOKENS] -= beta
    soft = softmax(adjusted)
    cross_entropy = -(soft * np.log(softmax(STUDENT))).sum(-1)
    entropy = -(soft * np.log(soft)).sum(-1)
    found = undial(student(taught(lowered, beta)))["loss"]
    assert found.tolist() == pytest.approx(by_answer(cross_entropy - entropy))


@pytest.mark.parametrize(("share", "struck"), [(0.1, [1, 1]), (0.5, [2, 1]), (1.0, [3, 2]), (3.0, [3, 2])])
def test_shred_strikes_out_the_surprising_tokens_and_keeps_the_others(share: float, struck: list[int]) -> None:
    p = softmax(TEACHER)
    target = p.copy()
    for answer, count in enumerate(struck):
        places = np.flatnonzero(answer == ANSWER_OF)
        own = p[places, TOKENS[places]]
        for place in places[np.argsort(own)[:count]]:
            target[place, TOKENS[place]] = 0
            target[place] /= target[place].sum()
    found = shred(student(taught(demoted, share)))["loss"]
    assert found.tolist() == pytest.approx(by_answer(kl(target, softmax(STUDENT))))


def test_duet_is_hubers_distance_of_the_logits_at_the_first_tokens() -> None:
    gap = np.abs(STUDENT - TEACHER)[[0, 3]]
    huber = np.where(gap < 1, 0.5 * gap**2, gap - 0.5).sum(-1)
    found = duet(student(taught(prompted, 0.0)))["loss"]
    assert found.tolist() == pytest.approx(huber.tolist())
    found.sum().backward()


def test_duet_looks_at_the_teachers_likeliest_tokens_only() -> None:
    values = torch.tensor(TEACHER)
    of = student(values)
    two = Likelihoods(
        tokens=of.tokens, answer_of=of.answer_of, in_prompt=of.in_prompt, answers=2, reference=of.reference,
        logits=of.logits, targets=TopTokens.of(values, 2),
    )  # fmt: skip
    chosen = np.argsort(-TEACHER[[0, 3]], -1)[:, :2]
    gap = np.abs(np.take_along_axis(STUDENT[[0, 3]] - TEACHER[[0, 3]], chosen, -1))
    assert duet(two)["loss"].tolist() == pytest.approx(np.where(gap < 1, 0.5 * gap**2, gap - 0.5).sum(-1), rel=1e-5)


def test_rmu_steers_to_one_positive_direction_of_length_beta() -> None:
    states = torch.tensor(RNG.normal(0, 1, (5, 16)))

    def loss(given: torch.Tensor, beta: float) -> list[float]:
        of = Likelihoods(
            tokens=torch.zeros(5, dtype=torch.float64), answer_of=torch.tensor(ANSWER_OF),
            in_prompt=torch.zeros(5, dtype=torch.bool), answers=2, reference=torch.empty(0), states=given,
        )  # fmt: skip
        return list(rmu.bind(beta=beta)(of)["loss"].tolist())

    # 1) the target, from the loss alone: |h - βu|² is least at βu, where its gradient is 0
    wanted = states.clone().requires_grad_()
    of = Likelihoods(
        tokens=torch.zeros(5), answer_of=torch.arange(5), in_prompt=torch.zeros(5, dtype=torch.bool), answers=5,
        reference=torch.empty(0), states=wanted,
    )  # fmt: skip
    rmu.bind(beta=6.5)(of)["loss"].sum().backward()
    assert wanted.grad is not None
    target = states - wanted.grad * 16 / 2
    assert torch.allclose(target, target[0].expand(5, -1)), "the same at every token"
    assert float(target[0].norm()) == pytest.approx(6.5) and bool((target >= 0).all())
    # 2) the value
    expected = ((states - target) ** 2).mean(-1).numpy()
    assert loss(states, 6.5) == pytest.approx(by_answer(expected))


def test_targets_are_the_models_own_without_its_adapter_and_are_kept(make_model: Any, tmp_path: Path) -> None:
    model, cache = make_model("llama"), tmp_path / "teacher.safetensors"
    unit = [Example("one", Group([1, 2, 3], [Continuation([4, 5, 6])]))]
    loss = open_loss("undial")
    ((found,),) = with_targets(model, [unit], loss, 4.0, cache)
    with torch.no_grad():
        logits = model(torch.tensor([[1, 2, 3, 4, 5, 6]])).logits[0, 2:5]
    expected = TopTokens.of(lowered(logits, torch.tensor([4, 5, 6]), 4.0), 64)
    assert found.targets is not None and torch.equal(found.targets.ids, expected.ids.int())
    torch.testing.assert_close(found.targets.log_probs, expected.log_probs, rtol=1e-5, atol=1e-5)
    ((again,),) = with_targets(None, [unit], loss, 4.0, cache)
    assert again.targets is not None and torch.equal(again.targets.ids, found.targets.ids), "read, without a model"
    # the loss of the model that is still its own teacher: what was taken off is all that is learned
    of = likelihoods(model, lay_out([found], 64))
    assert float(loss(of)["loss"].detach()) > 0
    same = with_targets(model, [unit], loss, 0.0, tmp_path / "same.safetensors")
    assert float(loss(likelihoods(model, lay_out(same[0], 64)))["loss"].detach()) == pytest.approx(0, abs=1e-4)


def test_a_prompted_teacher_is_asked_another_way(make_model: Any, tmp_path: Path) -> None:
    model = make_model("llama")
    unit = [Example("one", Group([1, 2], [Continuation([4, 5])]))]
    ((found,),) = with_targets(model, [unit], open_loss("duet"), 0, tmp_path / "t.safetensors", lambda each: [9, 1, 2])
    with torch.no_grad():
        logits = model(torch.tensor([[9, 1, 2, 4]])).logits[0, 2:]
    assert found.targets is not None
    torch.testing.assert_close(found.targets.log_probs, logits.topk(64).values, rtol=1e-5, atol=1e-5)
    assert math.isfinite(float(duet(likelihoods(model, lay_out([found], 64)))["loss"].detach()))


def test_hidden_states_are_those_that_predict_the_tokens(make_model: Any) -> None:
    model = make_model("llama")
    example = Example("one", Group([1, 2, 3], [Continuation([4, 5]), Continuation([6])]))
    of = likelihoods(model, lay_out([example], 64), states_at=0.5)
    with torch.no_grad():
        for answer, places in (([4, 5], [0, 1]), ([6], [2])):
            hidden = model(torch.tensor([[1, 2, 3, *answer]]), output_hidden_states=True).hidden_states
            # The last of them is normalised; what the last of two layers gives is what the norm is given.
            expected = model.model.norm(of.states[places])
            torch.testing.assert_close(expected, hidden[-1][0, 2 : 2 + len(answer)], rtol=1e-4, atol=1e-4)
