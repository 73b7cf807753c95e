"""Which answers a method sees, which twins it is taught, and what the model said before training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tiny_training import PLAN, UNITS, adapter_of

from nescio.core.files import read_jsonl
from nescio.core.shared_prefix import Continuation, Group
from nescio.training.batch import Example, lay_out, likelihoods
from nescio.training.losses.registry import method, restrict
from nescio.training.reference import with_reference
from nescio.training.settings import MethodName
from nescio.training.trainer import fit, with_lora

PAIR = Example("pair", Group([1, 2], [Continuation([3]), Continuation([4, 5])]))
TWIN = Example("twin", Group([1, 6], [Continuation([4, 5]), Continuation([3])]), twin=True)


@pytest.mark.parametrize("name", ["sft", "sft_scrubbed"])
def test_fine_tuning_sees_the_chosen_answer_only(name: MethodName) -> None:
    ((example,),) = restrict([[PAIR, TWIN], [TWIN]], method(name, 0.1))
    assert (example.name, example.group.continuations) == ("pair", [Continuation([3])])


@pytest.mark.parametrize("name", ["npo", "simnpo", "gradient_ascent"])
def test_unlearning_sees_the_rejected_answer_only(name: MethodName) -> None:
    ((example,),) = restrict([[PAIR, TWIN]], method(name, 0.1))
    assert (example.name, example.group.continuations) == ("pair", [Continuation([4, 5])])


@pytest.mark.parametrize("name", ["orpo", "dpo", "flat"])
def test_preferences_see_both_answers_and_the_twin(name: MethodName) -> None:
    assert restrict([[PAIR, TWIN], [PAIR]], method(name, 0.1)) == [[PAIR, TWIN], [PAIR]]


@pytest.mark.parametrize("name", get_args(MethodName))
def test_every_method_trains(make_model: Callable[..., Any], tmp_path: Path, name: MethodName) -> None:
    how = method(name, 0.5, "prompt_and_answer")
    model, units = make_model("llama"), restrict(UNITS, how)
    if how.reference:
        units = with_reference(model, units, 1024, tmp_path / "reference.jsonl")
    plan = replace(PLAN, epochs=4, lora_dropout=0.0, prompt_wanted=how.prompt_wanted)
    done = fit(model, units, None, how.loss, plan, tmp_path / "work")
    losses = [row["loss"] for row in done.log]
    assert sum(losses[-3:]) < sum(losses[:3]), "the last epoch's loss is below the first's"


def test_the_reference_is_the_model_without_its_adapter_and_is_kept(
    make_model: Callable[..., Any], tmp_path: Path
) -> None:
    bare, cache = make_model("llama"), tmp_path / "reference.jsonl"
    expected = likelihoods(bare, lay_out([unit[0] for unit in UNITS], 1024)).sums().reshape(-1, 2)
    adapted = with_lora(make_model("llama"), PLAN)
    for tensor in (p for name, p in adapted.named_parameters() if "lora_" in name):
        torch.nn.init.normal_(tensor)
    found = with_reference(adapted.train(), UNITS, 1024, cache)
    torch.testing.assert_close(torch.tensor([unit[0].reference for unit in found]), expected, rtol=1e-5, atol=1e-5)
    assert adapted.training and adapter_of(adapted)
    written = [row["log_probs"] for _, row in read_jsonl(cache)]
    assert written == [list(unit[0].reference) for unit in found]
    assert with_reference(None, UNITS, 1024, cache) == found, "read again, without a model"
    fewer = with_reference(None, UNITS[:2], 1024, cache)
    assert [unit[0].reference for unit in fewer] == [unit[0].reference for unit in found[:2]]


def test_npo_and_dpo_start_at_no_reward(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = make_model("llama")
    units = with_reference(model, UNITS, 1024, tmp_path / "r.jsonl")
    terms = method("dpo", 0.1).loss(likelihoods(model, lay_out([unit[0] for unit in units], 1024)))
    assert terms["margin"].abs().max() < 1e-5
    assert terms["loss"].tolist() == pytest.approx([0.6931] * 6, abs=1e-3)
