"""A folder of checkpoints belongs to one training: what differs is named, what an earlier version left out is not."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_training import SETTINGS, UNITS, KilledError, kill_at

from nescio.core.errors import NescioError
from nescio.training.anchors import Anchors, AnchorSettings
from nescio.training.batch import Likelihoods, Terms
from nescio.training.checkpoints import claim
from nescio.training.losses.orpo import orpo
from nescio.training.losses.registry import open_loss
from nescio.training.trainer import fit, with_lora

ORPO = orpo.bind(beta=0.1)
PLAN: dict[str, Any] = {"settings": SETTINGS, "train": UNITS, "loss": ORPO, "test": UNITS[:2]}
ONE_BESIDE, TWO_BESIDE = (Anchors(UNITS, AnchorSettings(per_step=count), seed=0, row_tokens=64) for count in (1, 2))


class Weighted:
    """A loss that is an object."""

    def __call__(self, of: Likelihoods, weight: float = 1.0) -> Terms:
        return {"loss": weight * of.sums()}


def test_another_loss_is_not_answered_with_the_first_ones_tensors(
    make_model: Callable[..., Any], tmp_path: Path
) -> None:
    how: dict[str, Any] = {"settings": replace(SETTINGS, epochs=1), "work": tmp_path}
    first = fit(make_model("llama"), UNITS, loss=ORPO, **how)
    with pytest.raises(NescioError, match=r"another recipe \(what differs: loss\); give another folder"):
        fit(make_model("llama"), UNITS, loss=open_loss("flat").bind(), **how)
    again = fit(make_model("llama"), UNITS, loss=orpo.bind(beta=0.1, nll_over="answer"), **how)
    assert again.log == first.log, "the same loss, with its default spelt out"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"loss": orpo.bind(beta=5.0)}, "loss"),
        ({"loss": lambda of: orpo(of, beta=0.1)}, "loss"),
        ({"loss": partial(Weighted(), weight=2.0)}, "loss"),
        ({"test": UNITS[2:4]}, "validation"),
        ({"beside": [ONE_BESIDE]}, "anchors"),
    ],
)
def test_what_differs_is_named(
    make_model: Callable[..., Any], tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    claim(tmp_path, model=make_model("llama"), **PLAN)
    claim(tmp_path, model=make_model("llama"), **PLAN)
    with pytest.raises(NescioError, match=rf"what differs: {named}\)"):
        claim(tmp_path, model=make_model("llama"), **PLAN | change)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"loss": lambda of, beta=0.1: orpo(of, beta=beta)}, {"loss": lambda of, beta=0.2: orpo(of, beta=beta)}),
        ({"loss": partial(Weighted(), weight=1.0)}, {"loss": partial(Weighted(), weight=2.0)}),
        ({"beside": [ONE_BESIDE]}, {"beside": [TWO_BESIDE]}),
    ],
)
def test_settings_tell_trainings_apart(
    make_model: Callable[..., Any], tmp_path: Path, one: dict[str, Any], other: dict[str, Any]
) -> None:
    claim(tmp_path, model=make_model("llama"), **PLAN | one)
    with pytest.raises(NescioError, match="another recipe"):
        claim(tmp_path, model=make_model("llama"), **PLAN | other)


def test_the_base_is_known_by_its_weights(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = make_model("llama")
    claim(tmp_path, model=model, **PLAN)
    claim(tmp_path, model=make_model("llama").bfloat16(), **PLAN)  # on a machine that loads it in that type
    adapted = with_lora(model, SETTINGS.lora)
    for same in (adapted, adapted.get_base_model()):
        claim(tmp_path, model=same, **PLAN)
    for other in (make_model("llama", seed=5), make_model("llama").to("meta"), make_model("gpt2")):
        with pytest.raises(NescioError, match=r"what differs: base\)"):
            claim(tmp_path, model=other, **PLAN)


def test_the_adapter_that_training_starts_from_counts(make_model: Callable[..., Any], tmp_path: Path) -> None:
    with_lora(make_model("llama"), SETTINGS.lora).save_pretrained(tmp_path / "start")
    claim(tmp_path / "work", model=make_model("llama"), start=tmp_path / "start", **PLAN)
    (tmp_path / "start").rename(tmp_path / "moved")
    claim(tmp_path / "work", model=make_model("llama"), start=tmp_path / "moved", **PLAN)
    with pytest.raises(NescioError, match=r"what differs: start\)"):
        claim(tmp_path / "work", model=make_model("llama"), **PLAN)


def test_a_training_of_an_earlier_version_goes_on(make_model: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        fit(make_model("llama"), UNITS, loss=ORPO, settings=SETTINGS, work=tmp_path, progress=kill_at(5))
    plan = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({name: plan[name] for name in ("settings", "examples")}))
    done = fit(make_model("llama"), UNITS, loss=ORPO, settings=SETTINGS, work=tmp_path)
    assert [folder.name for folder in done.checkpoints] == ["checkpoint-3", "checkpoint-6"]
