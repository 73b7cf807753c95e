"""Anchors in training: they hold the model where it was, in a fixed order, and after a kill to the same tensors."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trainer import KilledError, kill_at
from tiny_training import LORA, SETTINGS, UNITS, adapter_of

from nescio.core.errors import NescioError
from nescio.core.shared_prefix import Continuation, Group, logits, pack
from nescio.core.top_tokens import TopTokens
from nescio.training.anchors import Anchors, AnchorSettings
from nescio.training.batch import Example, Unit, lay_out, likelihoods
from nescio.training.losses.distil import distil
from nescio.training.losses.orpo import orpo
from nescio.training.trainer import fit

ORPO = orpo.bind(beta=0.1)
GROUPS = [Group([20 + n, 21, 22], [Continuation([23, 24 + n, 25])]) for n in range(5)]


def distribution(model: Any, group: Group) -> torch.Tensor:
    with torch.no_grad():
        return logits(model.eval(), pack([group])).log_softmax(-1)


def held(model: Any, k: int = 64) -> list[Unit]:
    """A unit for each group, with the model's own likely tokens as targets."""
    return [
        [Example(f"anchor {number}", group, targets=TopTokens.of(distribution(model, group), k))]
        for number, group in enumerate(GROUPS)
    ]


def anchors(model: Any, per_step: int = 2, weight: float = 1.0) -> Anchors:
    return Anchors(held(model), AnchorSettings(per_step=per_step, weight=weight), seed=0, row_tokens=64)


def moved(before: Any, after: Any) -> float:
    """Mean KL on the anchors, by an independent computation."""
    both = [(distribution(before, group), distribution(after, group)) for group in GROUPS]
    return sum(float((a.exp() * (a - b)).sum(-1).mean()) for a, b in both) / len(both)


def test_the_model_stays_where_it_is_held(make_model: Callable[..., Any], tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=8, learning_rate=3e-2, lora=replace(LORA, dropout=0.0))
    before = make_model("llama")
    free = fit(make_model("llama"), UNITS, loss=ORPO, settings=settings, work=tmp_path / "free")
    kept = fit(
        make_model("llama"), UNITS, loss=ORPO, settings=settings, work=tmp_path / "kept",
        anchors=anchors(before, per_step=3, weight=20.0),
    )  # fmt: skip
    assert moved(before, kept.model) < 0.3 * moved(before, free.model)
    assert kept.log[-1]["loss"] > 0 and "anchor_kl" in kept.log[-1] and "anchor_kl" not in free.log[-1]


def test_the_first_step_is_at_the_teacher(make_model: Callable[..., Any], tmp_path: Path) -> None:
    done = fit(
        make_model("llama"), UNITS, loss=ORPO, settings=SETTINGS, work=tmp_path, anchors=anchors(make_model("llama"))
    )
    assert done.log[0]["anchor_kl"] == pytest.approx(0, abs=1e-5), "a fresh adapter changes nothing"


def test_each_pass_takes_every_anchor_once(make_model: Callable[..., Any]) -> None:
    made = anchors(make_model("llama"), per_step=2)
    names = [example.name for step in range(10) for unit in made._beside(step) for example in unit]
    assert all(set(Counter(names[start : start + 5]).values()) == {1} for start in range(0, 20, 5))
    assert names[:5] != names[5:10], "each pass has an order of its own"
    assert names[6:8] == [example.name for unit in made._beside(3) for example in unit], "the step alone decides"


def test_a_killed_training_sees_the_same_anchors(make_model: Callable[..., Any], tmp_path: Path) -> None:
    def run(name: str, **more: Any) -> Any:
        made = anchors(make_model("llama"))
        return fit(
            make_model("llama"), UNITS, loss=ORPO, settings=replace(SETTINGS, gradient_accumulation=2),
            work=tmp_path / name, anchors=made, **more,
        )  # fmt: skip

    whole = run("whole")
    with pytest.raises(KilledError):
        run("cut", progress=kill_at(3))
    resumed = run("cut")
    one, other = adapter_of(whole.model), adapter_of(resumed.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.log == resumed.log


def test_accumulated_steps_weigh_anchors_as_one_step_does(make_model: Callable[..., Any], tmp_path: Path) -> None:
    """The anchors' loss is a mean over the batches of an update, not a sum."""
    model, lora = make_model("llama"), replace(LORA, dropout=0.0)
    one_anchor = Anchors(held(model)[:1], AnchorSettings(per_step=1, weight=5.0), seed=0, row_tokens=64)
    tensors = []
    for accumulated in (1, 3):
        settings = replace(
            SETTINGS, epochs=1, batch_size=6 // accumulated, gradient_accumulation=accumulated, lora=lora
        )
        done = fit(
            make_model("llama"), UNITS, loss=ORPO, settings=settings, work=tmp_path / str(accumulated),
            anchors=one_anchor,
        )  # fmt: skip
        tensors.append(adapter_of(done.model))
    for name in tensors[0]:
        torch.testing.assert_close(tensors[0][name], tensors[1][name], atol=1e-5, rtol=1e-4)


def test_distillation_reaches_the_teacher(make_model: Callable[..., Any], tmp_path: Path) -> None:
    torch.manual_seed(5)
    teacher = make_model("llama")
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    units = held(teacher, k=10_000)
    settings = replace(SETTINGS, epochs=60, learning_rate=2e-2, lora=replace(LORA, dropout=0.0, r=8))
    done = fit(make_model("llama"), units, loss=distil, settings=settings, work=tmp_path)
    assert done.log[-1]["loss"] < 0.2 * done.log[0]["loss"]
    batch = lay_out([example for unit in units for example in unit], None)
    by_hand = sum(
        float((t.exp() * (t - s)).sum(-1).mean())
        for t, s in ((distribution(teacher, group), distribution(done.model, group)) for group in GROUPS)
    ) / len(GROUPS)  # fmt: skip
    with torch.no_grad():
        assert float(distil(likelihoods(done.model, batch))["loss"].mean()) == pytest.approx(by_hand, abs=1e-4)


def test_training_goes_on_from_an_adapter(make_model: Callable[..., Any], tmp_path: Path) -> None:
    first = fit(make_model("llama"), UNITS, loss=ORPO, settings=SETTINGS, work=tmp_path / "first")
    settings = replace(SETTINGS, epochs=1, learning_rate=1e-9)
    again = fit(
        make_model("llama"), UNITS, loss=ORPO, settings=settings, work=tmp_path / "again", start=first.checkpoints[-1]
    )
    one, other = adapter_of(first.model), adapter_of(again.model)
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=1e-4)


def test_fewer_anchors_than_a_step_takes(make_model: Callable[..., Any]) -> None:
    with pytest.raises(NescioError, match=r"per_step: 6 anchors a step, but there are 5; lower it"):
        anchors(make_model("llama"), per_step=6)
