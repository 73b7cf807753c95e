"""A half that is to be kept beside each step: GradDiff, NPO and the others with it, equal to what was published."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import LORA, SETTINGS, UNITS

from nescio.core.shared_prefix import Continuation, Group
from nescio.training.anchors import AnchorSettings
from nescio.training.batch import Example, Unit, lay_out, likelihoods
from nescio.training.losses.registry import open_loss, restrict
from nescio.training.reference import with_reference
from nescio.training.retain import drift, retained
from nescio.training.trainer import fit, with_lora

KEPT: list[Unit] = [[Example(f"kept {n}", Group([30 + n, 31], [Continuation([40 + n, 41, 42])]))] for n in range(4)]
ALL = AnchorSettings(per_step=4, weight=2.0)


def token_log_probs(model: Any, group: Group) -> list[float]:
    """By the model's own forward, in float64."""
    (answer,) = group.continuations
    with torch.no_grad():
        logits = model(torch.tensor([group.prompt + answer.ids])).logits[0].double()
    start = len(group.prompt) - 1
    rows = logits[start : start + len(answer.ids)].log_softmax(-1)
    return [float(row[token]) for row, token in zip(rows, answer.ids, strict=True)]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


@pytest.mark.parametrize("name", ["gradient_ascent", "npo", "simnpo", "dpo"])
def test_the_first_step_has_the_published_value(make_model: Callable[..., Any], tmp_path: Path, name: str) -> None:
    """GradDiff, NPO + retain, SimNPO + retain, and IdkDPO: the forget loss plus α times the retain half's NLL."""
    loss, model = open_loss(name), make_model("llama")
    units = restrict(UNITS[:2], loss)
    if loss.needs_reference:
        units = with_reference(model, units, 64, tmp_path / "reference.jsonl")
    beside = retained(KEPT, ALL, loss, seed=0, row_tokens=64)
    kept = [value for (example,) in KEPT for value in token_log_probs(model, example.group)]
    lost = [token_log_probs(model, replace(e.group, continuations=[e.group.continuations[-1]])) for (e,) in UNITS[:2]]
    held, bare = beside.loss(model, 0)
    assert float(held.detach()) == pytest.approx(2.0 * bare) == pytest.approx(-2.0 * sum(kept) / len(kept), rel=1e-4)
    forget = {
        "gradient_ascent": sum(map(sum, lost)) / sum(map(len, lost)),
        "npo": -2 / 0.5 * log_sigmoid(0.0),
        "simnpo": sum(-2 / 0.5 * log_sigmoid(-0.5 * sum(own) / len(own)) for own in lost) / 2,
        "dpo": -log_sigmoid(0.0),
    }[name]
    work, settings = tmp_path / "work", replace(SETTINGS, epochs=1, lora=replace(LORA, dropout=0.0))
    done = fit(model, units, loss=loss.bind(beta=0.5), settings=settings, work=work, retain=beside)
    first = done.log[0]
    assert first["retain"] == pytest.approx(-sum(kept) / len(kept), rel=1e-4)
    assert first["loss"] == pytest.approx(forget, rel=1e-4), "the forget half's own, before the retain half is added"


def nll(model: Any) -> float:
    values = [value for (example,) in KEPT for value in token_log_probs(model.eval(), example.group)]
    return -sum(values) / len(values)


def test_what_is_kept_stays_likely(make_model: Callable[..., Any], tmp_path: Path) -> None:
    loss = open_loss("gradient_ascent")
    units, settings = restrict(UNITS, loss), replace(SETTINGS, epochs=4, lora=replace(LORA, dropout=0.0))
    before = nll(make_model("llama"))
    alone = fit(make_model("llama"), units, loss=loss.bind(), settings=settings, work=tmp_path / "alone")
    beside = retained(KEPT, replace(ALL, weight=20.0), loss, seed=0, row_tokens=64)
    kept = fit(make_model("llama"), units, loss=loss.bind(), settings=settings, work=tmp_path / "kept", retain=beside)
    assert nll(kept.model) < min(before, nll(alone.model)) - 1
    assert "retain" in kept.log[0] and "retain" not in alone.log[0]


def test_a_loss_of_hidden_states_holds_hidden_states(make_model: Callable[..., Any], tmp_path: Path) -> None:
    """A broken model is caught: without the retain half its states drift away, with it they stay."""
    loss = open_loss("rmu")
    batch = lay_out([example for unit in KEPT for example in unit], 64)
    adapted = with_lora(make_model("llama"), LORA)
    assert float(drift(adapted, batch, 0.5).detach()) == 0, "a fresh adapter changes nothing"
    units = restrict(UNITS, loss)
    settings = replace(SETTINGS, epochs=4, lora=replace(LORA, dropout=0.0), states_at=loss.states_at)
    moved = {}
    for name, weight in (("alone", 0.0), ("kept", 50.0)):
        beside = retained(KEPT, AnchorSettings(per_step=4, weight=weight), loss, seed=0, row_tokens=64)
        done = fit(
            make_model("llama"), units, loss=loss.bind(beta=8.0), settings=settings, work=tmp_path / name, retain=beside
        )
        with torch.no_grad():
            now = likelihoods(done.model, batch, 0.5).states
            then = likelihoods(make_model("llama"), batch, 0.5).states
        moved[name] = float(((now - then) ** 2).mean())
        assert float(drift(done.model, batch, 0.5).detach()) == pytest.approx(moved[name], rel=1e-3)
    assert moved["kept"] < 0.5 * moved["alone"]
