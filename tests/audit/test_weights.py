"""Weights rounded to few bits, and an adapter weaker or detached."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scripted import Scripted

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


def test_an_adapter_can_be_weaker_or_gone(tiny_folder: Path, tmp_path: Path, make_model: Callable[..., Any]) -> None:
    torch.manual_seed(1)
    tuned = get_peft_model(make_model("llama"), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    tuned.peft_config["default"].base_model_name_or_path = str(tiny_folder)
    tuned.save_pretrained(tmp_path / "adapter")
    setup = setup_of(str(tmp_path / "adapter"))
    assert (setup.model, setup.adapter) == (str(tiny_folder), str(tmp_path / "adapter"))
    victim = Victim(engine=Scripted(lambda request: ""), setup=setup, identity="x")
    name = "model.layers.0.self_attn.q_proj.weight"

    def weight(change: str) -> Any:
        changed = open_changed(victim, change)
        with changed.engine as engine:
            assert isinstance(engine, TorchEngine) and changed.identity == ["x", change]
            assert changed.setup.adapter is None
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
    assert [name for name in CHANGES if CHANGES[name].fits(plain)] == ["q8_0", "q4_0", "q4_1"]
