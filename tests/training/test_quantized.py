"""Training on a quantised base (QLoRA): the loss, resume and merge, on bitsandbytes' CPU kernels."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_training import LORA, SETTINGS, UNITS, KilledError, adapter_of, kill_at
from transformers import AutoModelForCausalLM

from nescio.core.models import load_model
from nescio.core.quantization import Quantization
from nescio.core.shared_prefix import unpackable
from nescio.task_vector.subtract import merge_adapter
from nescio.training.losses.orpo import orpo
from nescio.training.trainer import fit, with_lora

bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'nescio[quantize]'")

ORPO = orpo.bind(beta=0.1)
HOW = replace(SETTINGS, lora=replace(LORA, dropout=0.0))


def plain_loss(model: Any) -> float:
    """ORPO (Hong et al. 2024, eqs. 6 and 7) over the pairs, each answer in a forward of its own."""
    losses = []
    for (example,) in UNITS:
        means = []
        for answer in example.group.continuations:
            ids = torch.tensor([example.group.prompt + answer.ids])
            with torch.no_grad():
                scores = model(input_ids=ids).logits[0, len(example.group.prompt) - 1 : -1].log_softmax(-1)
            means.append(scores.gather(1, torch.tensor(answer.ids)[:, None]).mean())
        chosen, rejected = means
        odds = (chosen - rejected) - (torch.log1p(-chosen.exp()) - torch.log1p(-rejected.exp()))
        losses.append(-chosen - 0.1 * torch.nn.functional.logsigmoid(odds))
    return float(torch.stack(losses).mean())


def dequantised(quantised: Any, plain: Any) -> Any:
    """A plain model with the weights that the NF4 model multiplies by."""
    copied = copy.deepcopy(plain)
    for name, module in quantised.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            own = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            copied.get_submodule(name).weight.data = own.float()
    return copied


def test_the_base_is_in_four_bits_and_the_loss_that_of_its_weights_by_a_plain_forward(
    tiny_folder: Path, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    base = load_model(str(tiny_folder), quantize="nf4").model
    linear = {name: m for name, m in base.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {m.weight.dtype for name, m in linear.items() if name != "lm_head"} == {torch.uint8}
    assert linear["lm_head"].weight.dtype == torch.float32
    plain = dequantised(base, make_model("llama"))
    assert unpackable(base) is None
    before = plain_loss(plain)
    done = fit(base, UNITS, loss=ORPO, settings=HOW, work=tmp_path / "run", test=UNITS)
    assert all(p.dtype == torch.float32 for p in done.model.parameters() if p.requires_grad)
    held = [row["loss"] for row in done.log if row["split"] == "eval"]
    trained = PeftModel.from_pretrained(plain, done.checkpoints[-1])
    assert held[-1] == pytest.approx(plain_loss(trained), rel=1e-4)
    assert held[-1] < before


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_each_adapter_learns_after_a_forward_in_evaluation_mode(tiny_folder: Path, kind: Quantization) -> None:
    model = with_lora(load_model(str(tiny_folder), quantize=kind).model, HOW.lora)
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        model.eval()(input_ids=ids)
    model.train()(input_ids=ids, labels=ids).loss.backward()
    learning = [float(p.grad.abs().max()) for name, p in model.named_parameters() if "lora_B" in name]
    assert len(learning) == 14 and min(learning) > 0


def test_int8_trains_on_the_same_quantised_model(tiny_folder: Path, tmp_path: Path) -> None:
    base = load_model(str(tiny_folder), quantize="int8").model
    assert base.model.layers[0].self_attn.q_proj.weight.dtype == torch.int8
    assert unpackable(base) is None
    done = fit(base, UNITS, loss=ORPO, settings=HOW, work=tmp_path / "run", test=UNITS)
    held = [row["loss"] for row in done.log if row["split"] == "eval"]
    # Activations are rounded to eight bits, too, so packed rows agree as far as that goes.
    assert held[-1] == pytest.approx(plain_loss(done.model), rel=2e-2)
    assert held[-1] < held[0]


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_killed_run_ends_in_the_same_tensors(tiny_folder: Path, tmp_path: Path, kind: Quantization) -> None:
    def run(folder: str, progress: Any = None) -> Any:
        base = load_model(str(tiny_folder), quantize=kind).model
        return fit(base, UNITS, loss=ORPO, settings=SETTINGS, work=tmp_path / folder, progress=progress)

    whole = run("whole")
    with pytest.raises(KilledError):
        run("cut", kill_at(5))
    resumed = run("cut")
    one, other = adapter_of(whole.model), adapter_of(resumed.model)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_adapter_merges_into_the_base_as_it_is(
    tiny_folder: Path, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    base = load_model(str(tiny_folder), quantize="nf4").model
    done = fit(base, UNITS, loss=ORPO, settings=HOW, work=tmp_path / "run")
    merge_adapter(str(tiny_folder), done.checkpoints[-1], tmp_path / "merged")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    theirs = PeftModel.from_pretrained(make_model("llama"), done.checkpoints[-1]).merge_and_unload()
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weight)
