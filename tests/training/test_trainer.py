"""The trainer: it learns, logs, decays, keeps a checkpoint an epoch, and goes on after a kill to the same tensors."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nescio.errors import NescioError
from nescio.packing import Branch, Group
from nescio.training.objectives import likelihood, orpo
from nescio.training.trainer import Plan, fit

UNITS = [[Group([1 + n, 2, 3], [Branch([4, 5 + n]), Branch([7, 8, 9 + n])])] for n in range(6)]
PLAN = Plan(epochs=2, batch_size=2, learning_rate=1e-2, lora_r=4, lora_alpha=8, lora_dropout=0.1)


def tensors(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters() if "lora_" in name}


def test_learns_logs_and_decays(make_model: Callable[..., Any], tmp_path: Path) -> None:
    plan = Plan(epochs=6, batch_size=2, learning_rate=1e-2, lora_r=4, lora_alpha=8)
    _, log = fit(make_model("llama"), UNITS, UNITS[:2], orpo(0.1), plan, tmp_path)
    train = [row for row in log if row["split"] == "train"]
    held = [row for row in log if row["split"] == "eval"]
    assert len(train) == 18
    assert len(held) == 6
    assert train[-1]["loss"] < train[0]["loss"]
    assert {
        "step",
        "epoch",
        "loss",
        "nll",
        "odds_loss",
        "chosen_reward",
        "rejected_reward",
        "margin",
        "accuracy",
    } <= set(held[0])
    for step, row in enumerate(train):
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 18))
        assert row["learning_rate"] == pytest.approx(1e-2 * cosine, rel=1e-4)


def test_lora_is_on_all_linear_layers_but_the_head(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model, _ = fit(make_model("llama"), UNITS, None, likelihood, PLAN, tmp_path)
    touched = {name.split(".lora_")[0].split(".")[-1] for name in tensors(model)}
    assert touched == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())


@pytest.mark.parametrize("half_written", [False, True])
def test_a_killed_run_ends_in_the_same_tensors(
    make_model: Callable[..., Any], tmp_path: Path, half_written: bool
) -> None:
    whole, log = fit(make_model("llama"), UNITS, UNITS[:2], orpo(0.1), PLAN, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 5:  # in the second of two epochs of three steps
            raise KilledError

    with pytest.raises(KilledError):
        fit(make_model("llama"), UNITS, UNITS[:2], orpo(0.1), PLAN, tmp_path / "cut", kill)
    if half_written:
        (tmp_path / "cut/checkpoint-6").mkdir()
        (tmp_path / "cut/checkpoint-6/trainer_state.json").write_text('{"epoch": 2')
    resumed, log_again = fit(make_model("llama"), UNITS, UNITS[:2], orpo(0.1), PLAN, tmp_path / "cut")
    one, other = tensors(whole), tensors(resumed)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert log == log_again
    assert sorted(path.name for path in (tmp_path / "cut").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    assert json.loads((tmp_path / "cut/checkpoint-6/trainer_state.json").read_text())["global_step"] == 6


def test_units_are_not_torn_apart(make_model: Callable[..., Any], tmp_path: Path) -> None:
    seen = []

    def objective(model: Any, packed: Any) -> Any:
        seen.append(packed.branches)
        return likelihood(model, packed)

    couples = [[*UNITS[n], *UNITS[n + 1]] for n in (0, 2, 4)]
    fit(make_model("llama"), couples, None, objective, Plan(epochs=1, batch_size=2, lora_r=2), tmp_path)
    assert seen == [4, 4, 4]


def test_a_loss_that_is_no_number_stops(make_model: Callable[..., Any], tmp_path: Path) -> None:
    def broken(model: Any, packed: Any) -> Any:
        loss, measured = likelihood(model, packed)
        return loss * float("nan"), measured

    with pytest.raises(NescioError, match="loss is nan at step 1"):
        fit(make_model("llama"), UNITS, None, broken, PLAN, tmp_path)
