"""The trainer: it learns, logs, decays, keeps a checkpoint an epoch, and goes on after a kill to the same tensors."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import LORA, SETTINGS, UNITS, KilledError, adapter_of, kill_at, largest_difference
from transformers import TrainingArguments

from nescio.core.errors import NescioError
from nescio.core.shared_prefix import Group
from nescio.training.batch import Example, Likelihoods
from nescio.training.losses.gradient_ascent import gradient_ascent
from nescio.training.losses.likelihood import likelihood
from nescio.training.losses.orpo import orpo
from nescio.training.losses.registry import PairLoss
from nescio.training.settings import LoraSettings, TrainingSettings
from nescio.training.trainer import fit

ORPO = orpo.bind(beta=0.1)
NO_DROPOUT = replace(LORA, dropout=0.0)
ANSWERS = [[Example(unit[0].name, Group(unit[0].group.prompt, unit[0].group.continuations[:1]))] for unit in UNITS]


def test_learns_logs_and_decays(make_model: Callable[..., Any], tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=6, lora=NO_DROPOUT)
    done = fit(make_model("llama"), UNITS, loss=ORPO, settings=settings, work=tmp_path, test=UNITS[:2])
    train = [row for row in done.log if row["split"] == "train"]
    held = [row for row in done.log if row["split"] == "eval"]
    assert (len(train), len(held)) == (18, 6)
    assert train[-1]["loss"] < train[0]["loss"]
    parts = {"loss", "nll", "odds_loss", "chosen_reward", "rejected_reward", "margin", "accuracy"}
    assert {"step", "epoch"} | parts <= set(held[0])
    assert held[0]["loss"] == pytest.approx(held[0]["nll"] + 0.1 * held[0]["odds_loss"])
    for step, row in enumerate(train):
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 18))
        assert row["learning_rate"] == pytest.approx(1e-2 * cosine, rel=1e-4)
    assert done.best == 6


def test_lora_is_on_all_linear_layers_but_the_head(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = fit(make_model("llama"), ANSWERS, loss=likelihood, settings=SETTINGS, work=tmp_path).model
    touched = {name.split(".lora_")[0].split(".")[-1] for name in adapter_of(model)}
    assert touched == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())


def test_lora_is_where_the_recipe_says(make_model: Callable[..., Any], tmp_path: Path) -> None:
    settings = replace(SETTINGS, lora=replace(LORA, targets=["q_proj", "v_proj"]), epochs=1)
    model = fit(make_model("llama"), ANSWERS, loss=likelihood, settings=settings, work=tmp_path).model
    assert {name.split(".lora_")[0].split(".")[-1] for name in adapter_of(model)} == {"q_proj", "v_proj"}
    with pytest.raises(NescioError, match=r"targets: \['query'\] fits no module .* down_proj"):
        fit(
            make_model("llama"),
            ANSWERS,
            loss=likelihood,
            settings=replace(settings, lora=replace(LORA, targets=["query"])),
            work=tmp_path / "none",
        )


def test_a_misspelt_target_is_not_skipped(make_model: Callable[..., Any], tmp_path: Path) -> None:
    settings = replace(SETTINGS, lora=replace(LORA, targets=["q_proj", "o_prj"]))
    with pytest.raises(NescioError, match=r"targets: \['o_prj'\] fits no module .* o_proj"):
        fit(make_model("llama"), ANSWERS, loss=likelihood, settings=settings, work=tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize("half_written", [False, True])
def test_a_killed_run_ends_in_the_same_tensors(
    make_model: Callable[..., Any], tmp_path: Path, half_written: bool
) -> None:
    whole = fit(make_model("llama"), UNITS, loss=ORPO, settings=SETTINGS, work=tmp_path / "whole", test=UNITS[:2])
    with pytest.raises(KilledError):  # in the second of two epochs of three steps
        fit(
            make_model("llama"),
            UNITS,
            loss=ORPO,
            settings=SETTINGS,
            work=tmp_path / "cut",
            test=UNITS[:2],
            progress=kill_at(5),
        )
    if half_written:
        (tmp_path / "cut/checkpoint-6").mkdir()
        (tmp_path / "cut/checkpoint-6/trainer_state.json").write_text('{"epoch": 2')
    resumed = fit(make_model("llama"), UNITS, loss=ORPO, settings=SETTINGS, work=tmp_path / "cut", test=UNITS[:2])
    one, other = adapter_of(whole.model), adapter_of(resumed.model)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [list(row.items()) for row in whole.log] == [list(row.items()) for row in resumed.log]
    assert [folder.name for folder in resumed.checkpoints] == ["checkpoint-3", "checkpoint-6"]
    assert json.loads((tmp_path / "cut/checkpoint-6/trainer_state.json").read_text())["global_step"] == 6


def test_checkpoints_of_another_recipe_are_refused(make_model: Callable[..., Any], tmp_path: Path) -> None:
    fit(make_model("llama"), UNITS, loss=ORPO, settings=replace(SETTINGS, epochs=1), work=tmp_path)
    for settings, units in ((replace(SETTINGS, epochs=3), UNITS), (replace(SETTINGS, epochs=1), UNITS[1:])):
        with pytest.raises(NescioError, match="checkpoints of another recipe"):
            fit(make_model("llama"), units, loss=ORPO, settings=settings, work=tmp_path)


def test_units_are_not_torn_apart(make_model: Callable[..., Any], tmp_path: Path) -> None:
    seen = []

    def loss(of: Likelihoods) -> dict[str, torch.Tensor]:
        seen.append(of.answers)
        return orpo(of, beta=0.1)

    couples = [[*UNITS[n], *UNITS[n + 1]] for n in (0, 2, 4)]
    fit(
        make_model("llama"),
        couples,
        loss=loss,
        settings=TrainingSettings(epochs=1, batch_size=2, lora=LoraSettings(r=2)),
        work=tmp_path,
    )
    assert seen == [4, 4, 4]


@pytest.mark.parametrize(
    "change", [{"row_tokens": 12}, {"row_tokens": None}, {"gradient_checkpointing": True}], ids=str
)
def test_how_rows_are_laid_out_changes_nothing(
    make_model: Callable[..., Any], tmp_path: Path, change: dict[str, Any]
) -> None:
    settings = replace(SETTINGS, lora=NO_DROPOUT)
    one = fit(make_model("llama"), UNITS, loss=ORPO, settings=settings, work=tmp_path / "one")
    other = fit(make_model("llama"), UNITS, loss=ORPO, settings=replace(settings, **change), work=tmp_path / "other")
    assert largest_difference(adapter_of(one.model), adapter_of(other.model)) < 1e-3
    losses = [[row["loss"] for row in done.log] for done in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_accumulated_steps_weigh_every_pair_alike(make_model: Callable[..., Any], tmp_path: Path) -> None:
    # Two and then one pair; or all three at once.
    units = [[*UNITS[0], *UNITS[1]], UNITS[2]]
    settings = replace(SETTINGS, epochs=1, gradient_accumulation=2, lora=NO_DROPOUT)
    one = fit(make_model("llama"), units, loss=ORPO, settings=settings, work=tmp_path / "one")
    together = [[*UNITS[0], *UNITS[1], *UNITS[2]]]
    whole = replace(settings, batch_size=3, gradient_accumulation=1)
    other = fit(make_model("llama"), together, loss=ORPO, settings=whole, work=tmp_path / "other")
    assert one.log[0]["grad_norm"] == pytest.approx(other.log[0]["grad_norm"], rel=1e-5)
    assert one.log[0]["loss"] == pytest.approx(other.log[0]["loss"], rel=1e-6)


def test_a_loss_that_is_no_number_names_the_pairs(make_model: Callable[..., Any], tmp_path: Path) -> None:
    steps = []

    def broken(of: Likelihoods) -> dict[str, torch.Tensor]:
        steps.append(of)
        terms = orpo(of, beta=0.1)
        return terms if len(steps) < 5 else terms | {"loss": terms["loss"] * torch.tensor([1.0, float("nan")])}

    with pytest.raises(NescioError, match=r"the loss of pair \d is nan at step 5; .*checkpoint-3 is kept"):
        fit(make_model("llama"), UNITS, loss=broken, settings=SETTINGS, work=tmp_path)
    assert (tmp_path / "checkpoint-3/adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda of: {"loss": -of.means()}, r"own: loss: must be a tensor \[2\], .* is a tensor \[4\]$"),
        (lambda of: {"loss": -of.means().mean()}, r"own: loss: must be .* is a tensor \[\]$"),
        (lambda of: {"loss": -of.means()[::2], "share": 0.5}, r"own: share: must be .* is float$"),
        (lambda of: {"nll": -of.means()[::2]}, r'own: must return a dictionary with "loss", is dict$'),
        (lambda of: {"loss": -of.means().detach()[::2]}, r"own: has no gradient: it is cut off"),
        (lambda of: -of.means()[::2], r'own: must return a dictionary with "loss", is Tensor$'),
    ],
)
def test_what_a_loss_of_ones_own_may_return(
    make_model: Callable[..., Any], tmp_path: Path, returned: Callable[[Likelihoods], Any], said: str
) -> None:
    def own(of: Likelihoods) -> Any:
        return returned(of)

    for loss in (own, PairLoss(function=own)):
        with pytest.raises(NescioError, match=f"^loss {said}"):
            fit(make_model("llama"), UNITS, loss=loss, settings=SETTINGS, work=tmp_path)


def test_a_gradient_that_is_no_number_names_the_pairs(make_model: Callable[..., Any], tmp_path: Path) -> None:
    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return gradient * float("inf")

    def broken(of: Likelihoods) -> dict[str, torch.Tensor]:
        return {"loss": Spoil.apply(orpo(of, beta=0.1)["loss"])}

    with pytest.raises(NescioError, match=r"the gradient of pair \d, pair \d is (nan|inf) at step 1; .*no checkpoint"):
        fit(make_model("llama"), UNITS, loss=broken, settings=SETTINGS, work=tmp_path)


def test_the_lowest_validation_loss_is_kept_and_stops_early(make_model: Callable[..., Any], tmp_path: Path) -> None:
    # What is learned on the left is unlearned on the right: validation gets worse with every epoch.
    settings = replace(SETTINGS, epochs=6, keep="loss", patience=2)
    done = fit(
        make_model("llama"),
        ANSWERS,
        loss=gradient_ascent,
        settings=settings,
        work=tmp_path / "better",
        test=ANSWERS[:2],
    )
    held = [row["loss"] for row in done.log if row["split"] == "eval"]
    assert held == sorted(held, reverse=True) and len(held) == 6
    assert done.best == 6

    def worse(of: Likelihoods) -> dict[str, torch.Tensor]:
        terms = gradient_ascent(of)
        return terms if torch.is_grad_enabled() else {"loss": -terms["loss"]}

    done = fit(make_model("llama"), ANSWERS, loss=worse, settings=settings, work=tmp_path / "worse", test=ANSWERS[:2])
    held = [row["loss"] for row in done.log if row["split"] == "eval"]
    assert held == sorted(held) and len(held) == 3, "one that was best, and two of patience"
    assert done.best == 1


@pytest.mark.parametrize("last", [2, 3], ids=["while it waits", "when it has stopped"])
def test_patience_outlives_a_kill(make_model: Callable[..., Any], tmp_path: Path, last: int) -> None:
    settings = replace(SETTINGS, epochs=6, keep="leakage", patience=2)
    measured = [1.0, 5.0, 5.0, 0.5, 0.4, 0.3]  # it would be better, had patience not been lost

    def trained(folder: str, said: list[float], progress: Any = None) -> Any:
        values = iter(said)
        return fit(
            make_model("llama"),
            UNITS,
            loss=ORPO,
            settings=settings,
            work=tmp_path / folder,
            test=UNITS[:2],
            progress=progress,
            measure=lambda *_: {"leakage": next(values)},
        )

    whole = trained("whole", measured)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for step in range(3 * last + 3, 19, 3):
        shutil.rmtree(tmp_path / f"cut/checkpoint-{step}", ignore_errors=True)
    resumed = trained("cut", measured[last:])
    assert [folder.name for folder in resumed.checkpoints] == [folder.name for folder in whole.checkpoints]
    assert len(whole.checkpoints) == 3 and resumed.best == whole.best == 1
    assert resumed.log == whole.log
    one, other = adapter_of(whole.model), adapter_of(resumed.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


class TwoGpus(TrainingArguments):  # type: ignore[misc]
    @cached_property
    def _setup_devices(self) -> Any:
        device = super()._setup_devices
        self._n_gpu = 2
        return device


def test_one_process_trains_on_one_gpu(
    make_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nescio.training.packed_trainer.TrainingArguments", TwoGpus)
    done = fit(make_model("llama"), UNITS, loss=ORPO, settings=replace(SETTINGS, epochs=1), work=tmp_path)
    assert len(done.log) == 3, "the batches of one device, in the place of twice as large ones cut in two"


def test_the_least_leakage_is_kept(make_model: Callable[..., Any], tmp_path: Path) -> None:
    said = iter([5.0, 2.0, 3.0])

    def measure(model: Any, epoch: int) -> dict[str, float]:
        epochs.append(epoch)
        assert not model.training
        assert {"lora_A", "lora_B"} <= {name.split(".")[-3] for name in adapter_of(model)}
        return {"leakage": next(said), "words": 0.5}

    epochs: list[int] = []
    settings = replace(SETTINGS, epochs=3, keep="leakage")
    done = fit(make_model("llama"), UNITS, loss=ORPO, settings=settings, work=tmp_path, test=UNITS[:2], measure=measure)
    assert [row["leakage"] for row in done.log if row["split"] == "eval"] == [5.0, 2.0, 3.0]
    assert {row["words"] for row in done.log if row["split"] == "eval"} == {0.5}
    assert done.best == 2 and epochs == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "held", "complaint"),
    [
        ({"keep": "loss"}, None, "needs validation pairs"),
        ({"keep": "leakage"}, UNITS[:1], "leakage is measured by a run"),
        ({"keep": "balanced"}, UNITS[:1], "balanced is measured by a run"),
        ({"patience": 1}, UNITS[:1], "set train.keep to loss, leakage or balanced"),
        ({"keep": "loss"}, [], "loss needs validation pairs, there are none"),
        ({"keep": "loss", "save_steps": 2}, UNITS[:1], "save_steps: 2 leaves epochs without a checkpoint"),
        ({"report_to": ["nowhere"]}, None, r"nowhere is not installed; run `pip install 'nescio\[nowhere\]'`"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    make_model: Callable[..., Any], tmp_path: Path, change: dict[str, Any], held: Any, complaint: str
) -> None:
    with pytest.raises(NescioError, match=complaint):
        fit(make_model("llama"), UNITS, loss=ORPO, settings=replace(SETTINGS, **change), work=tmp_path, test=held)
