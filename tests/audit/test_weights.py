"""Weights rounded to few bits, and an adapter weaker or detached."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scripted import Scripted
from torch import Tensor

from nescio.audit.victim import Victim, setup_of
from nescio.audit.weights import CHANGES, check, open_changed, round_weights
from nescio.core.errors import NescioError
from nescio.engines.torch_engine import TorchEngine


@pytest.mark.parametrize(("kind", "most"), [("Q8_0", 0.01), ("Q4_0", 0.2), ("Q4_1", 0.2)])
def test_rounding_is_ggufs(kind: str, most: float, make_model: Callable[..., Any]) -> None:
    model, before = make_model("llama"), make_model("llama").state_dict()
    round_weights(model, kind)
    name = "model.layers.0.mlp.down_proj.weight"
    number = gguf.GGMLQuantizationType[kind]
    wanted = gguf.quants.dequantize(gguf.quants.quantize(before[name].numpy(), number), number)
    after = model.state_dict()
    assert torch.equal(after[name], torch.from_numpy(wanted))
    error = float((after[name] - before[name]).norm() / before[name].norm())
    assert 0 < error < most
    assert torch.equal(after["model.norm.weight"], before["model.norm.weight"])
    head = "lm_head.weight"
    assert float((after[head] - before[head]).norm() / before[head].norm()) < 0.01, "the head keeps eight bits"


@pytest.mark.parametrize(("family", "linear", "kept"), [
    ("llama", "model.layers.0.mlp.down_proj.weight", ("model.embed_tokens.weight", "lm_head.weight")),
    ("gpt2", "transformer.h.0.mlp.c_fc.weight", ("transformer.wte.weight", "transformer.wpe.weight")),
])  # fmt: skip
def test_rounding_to_nf4_is_the_papers(
    family: str, linear: str, kept: tuple[str, ...], make_model: Callable[..., Any]
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'nescio[quantize]'")
    model, before = make_model(family), make_model(family).state_dict()
    round_weights(model, "NF4")
    after = model.state_dict()
    rows = before[linear].T if family == "gpt2" else before[linear]  # its Conv1D holds a weight transposed
    wanted = nearest_nf4(rows)
    assert torch.allclose(after[linear].T if family == "gpt2" else after[linear], wanted, atol=1e-7)
    assert 0.03 < float((wanted - rows).norm() / rows.norm()) < 0.15
    assert all(torch.equal(after[name], before[name]) for name in kept)


def nearest_nf4(weight: Tensor) -> Tensor:
    """Each weight at the nearest level of QLoRA's appendix E, times its block's largest."""
    levels = torch.tensor([
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ])  # fmt: skip
    blocks = weight.reshape(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks[..., None] / largest[..., None] - levels).abs().argmin(-1)
    return (levels[nearest] * largest).reshape(weight.shape)


def test_what_rounds_is_asked_for_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(NescioError, match=r"^--weights nf4: bitsandbytes is not installed; .*\[quantize\]"):
        check(["detached", "nf4"])


def test_an_adapter_can_be_weaker_or_gone(tiny_folder: Path, tmp_path: Path, make_model: Callable[..., Any]) -> None:
    torch.manual_seed(1)
    tuned = get_peft_model(make_model("llama"), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    tuned.peft_config["default"].base_model_name_or_path = str(tiny_folder)
    tuned.save_pretrained(tmp_path / "adapter")
    setup = setup_of(str(tmp_path / "adapter"), "Say nothing.")
    assert (setup.model, setup.adapter) == (str(tiny_folder), str(tmp_path / "adapter"))
    victim = Victim(engine=Scripted(lambda request: ""), setup=setup, identity="x")
    name = "model.layers.0.self_attn.q_proj.weight"

    def weight(change: str) -> Any:
        changed = open_changed(victim, change)
        with changed.engine as engine:
            assert isinstance(engine, TorchEngine) and changed.identity == ["x", change]
            assert (changed.setup.adapter, changed.setup.system) == (None, "Say nothing.")
            return engine.model.state_dict()[name].float()

    base = make_model("llama").state_dict()[name]
    delta = tuned.merge_and_unload().state_dict()[name] - base
    assert delta.norm() > 0
    assert torch.allclose(weight("detached"), base)
    assert torch.allclose(weight("half"), base + delta / 2, atol=1e-6)
    assert torch.allclose(weight("q8_0"), base + delta, atol=0.02)


def test_wrong_names_and_models_without_an_adapter() -> None:
    with pytest.raises(NescioError, match="--weights q5: unknown; known here: q8_0"):
        check(["q8_0", "q5"])
    plain = setup_of("x/y")
    assert [name for name in CHANGES if CHANGES[name].fits(plain)] == ["q8_0", "q4_0", "q4_1", "nf4"]
