"""Adapters beside a model's layers, against PEFT: heads and embeddings, whose base weights PEFT stores with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from nescio.core.errors import NescioError
from nescio.engines.decode.cpu_linear import pack, packable
from nescio.engines.decode.lora import Adapters

Make = Callable[..., Any]
IDS = torch.tensor([[5, 6, 7, 8, 9]])


def write_adapter(model: Any, folder: Path, targets: list[str]) -> torch.Tensor:
    """Write a trained-looking adapter and return PEFT's logits with it."""
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, target_modules=targets))
    torch.manual_seed(3)
    for name, tensor in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(tensor, std=0.2)
    adapted.save_pretrained(folder)
    logits: torch.Tensor = adapted.eval()(IDS).logits
    return logits.detach()


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["embed_tokens", "down_proj"]], ids=str)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_heads_and_embeddings(make_model: Make, tmp_path: Path, targets: list[str], tied: bool, packed: bool) -> None:
    def make() -> Any:
        return make_model("llama", tie_word_embeddings=tied).eval()

    expected = write_adapter(make(), tmp_path, targets)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert any("base_layer" in name or "lora" not in name for name in stored), "PEFT stores the base's weight too"
    model = make()
    if packed and packable(model):
        pack(model, "full")
    adapters = Adapters(model)
    adapters.load(tmp_path)
    with adapters.rows([adapters.load(tmp_path)]), torch.no_grad():  # the second time the layers have adapters already
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-3, atol=1e-4)


def test_a_head_that_was_trained_whole_is_refused(make_model: Make, tmp_path: Path) -> None:
    write_adapter(make_model("llama"), tmp_path, ["q_proj", "lm_head"])
    path = tmp_path / "adapter_model.safetensors"
    changed = {n: t if "lora_" in n else t + 0.01 for n, t in load_file(path).items()}
    save_file(changed, path)
    with pytest.raises(NescioError, match=r"is no LoRA weight; merge the adapter instead"):
        Adapters(make_model("llama")).load(tmp_path)
