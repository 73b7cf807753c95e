"""Training with products in bf16: the same adapter but for rounding, and what is measured in between stays fp32."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import Linear
from tiny_training import LORA, SETTINGS, UNITS, KilledError, adapter_of, kill_at, largest_difference

from nescio.core.shared_prefix import core_of, unpackable
from nescio.training.losses.orpo import orpo
from nescio.training.trainer import fit

ORPO = orpo.bind(beta=0.1)
NO_DROPOUT = replace(LORA, dropout=0.0)
IDS = torch.tensor([[5, 6, 7, 8]])


def test_bf16_learns_the_same_in_an_adapter_of_fp32(make_model: Callable[..., Any], tmp_path: Path) -> None:
    exact, brief = replace(SETTINGS, lora=NO_DROPOUT), replace(SETTINGS, lora=NO_DROPOUT, bf16=True)
    whole = fit(make_model("llama"), UNITS, loss=ORPO, settings=exact, work=tmp_path / "exact")
    short = fit(make_model("llama"), UNITS, loss=ORPO, settings=brief, work=tmp_path / "brief")
    assert {tensor.dtype for tensor in adapter_of(short.model).values()} == {torch.float32}
    losses = [[row["loss"] for row in done.log] for done in (whole, short)]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_killed_training_goes_on_where_products_have_another_type(
    make_model: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        fit(make_model("llama"), UNITS, loss=ORPO, settings=SETTINGS, work=tmp_path, progress=kill_at(5))
    done = fit(make_model("llama"), UNITS, loss=ORPO, settings=replace(SETTINGS, bf16=True), work=tmp_path)
    assert [row["step"] for row in done.log] == [1, 2, 3, 4, 5, 6]


def test_activations_computed_again_in_bf16_change_nothing(make_model: Callable[..., Any], tmp_path: Path) -> None:
    stored = replace(SETTINGS, bf16=True)  # with dropout, whose draws are the same in both
    again = replace(stored, gradient_checkpointing=True)
    one, other = (
        fit(make_model("llama"), UNITS, loss=ORPO, settings=how, work=tmp_path / str(how.gradient_checkpointing))
        for how in (stored, again)
    )
    assert largest_difference(adapter_of(one.model), adapter_of(other.model)) < 1e-3


def test_a_judge_sees_fp32_and_a_model_with_a_cache(make_model: Callable[..., Any], tmp_path: Path) -> None:
    seen = list[tuple[torch.dtype, str, str | None, bool]]()

    def measure(model: Any, epoch: int) -> Mapping[str, float]:
        layer, made = next(module for module in model.modules() if type(module) is Linear), list[torch.dtype]()
        hook = layer.register_forward_hook(lambda module, given, out: made.append(out.dtype))
        with torch.no_grad():
            model(input_ids=IDS)
        hook.remove()
        seen.append((made[0], model.config._attn_implementation, unpackable(model), model is core_of(model)))
        return {"leakage": 0.0}

    settings = replace(SETTINGS, bf16=True, epochs=1)
    model = make_model("llama")
    fit(model, UNITS, loss=ORPO, settings=settings, work=tmp_path, test=UNITS[:2], measure=measure)
    assert seen == [(torch.float32, "nescio_blocks", None, True)]
    assert model.config._attn_implementation == "sdpa"


def test_the_layers_are_fused_while_it_trains(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model, fused = make_model("llama"), list[int]()

    def progress(step: int, steps: int) -> None:
        fused.append(sum("forward" in vars(module) for module in model.modules() if type(module) is Linear))

    fit(model, UNITS, loss=ORPO, settings=replace(SETTINGS, epochs=1), work=tmp_path, progress=progress)
    assert fused == [14, 14, 14]
    assert not any("forward" in vars(module) for module in model.modules() if type(module) is Linear)
