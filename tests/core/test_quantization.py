"""Quantisation: what it needs of a machine, and the memory that shapes alone give."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig

from nescio.core import models
from nescio.core.errors import NescioError
from nescio.core.model_size import ModelSize
from nescio.core.quantization import BYTES_EACH, check_quantization

LLAMA_3_8B = LlamaConfig(
    hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
    vocab_size=128256, tie_word_embeddings=False,
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.mark.parametrize("style", ["llama", "gpt2"])  # gpt2 has Conv1D and a tied head
def test_a_size_is_that_of_the_model(make_model: Callable[..., Any], style: str) -> None:
    model = make_model(style)
    size = ModelSize.of(model.config)
    assert size.weights == sum(parameter.numel() for parameter in model.parameters())
    head = model.get_output_embeddings().weight
    named = [(name, weight) for name, weight in model.named_parameters() if weight.dim() == 2]
    others = ("emb", "wte", "wpe", "lm_head")
    assert size.linear == sum(w.numel() for name, w in named if w is not head and not any(o in name for o in others))
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=3, fan_in_fan_out=style == "gpt2")
    trained = sum(p.numel() for p in get_peft_model(model, lora).parameters() if p.requires_grad)
    assert trained == 3 * size.lora_width


def test_llama_3_8b_in_gigabytes() -> None:
    size = ModelSize.of(LLAMA_3_8B)
    assert size.weights == 8_030_261_248
    assert size.bytes_of_weights(torch.bfloat16) == 2 * size.weights
    assert 5.5e9 < size.bytes_of_weights(torch.bfloat16, "nf4") < 5.9e9
    assert size.kv == 1024


def test_the_bytes_of_a_quantised_weight_are_bitsandbytes_own() -> None:
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'nescio[quantize]'")
    weight = torch.randn(1024, 1024)
    packed, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    stored = packed.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert stored == pytest.approx(BYTES_EACH["nf4"] * weight.numel(), rel=1e-3)
    assert len((bnb.functional.dequantize_4bit(packed, state).view(-1, 64)[0]).unique()) <= 16


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(NescioError, match=r"^train\.quantize: nf4: bitsandbytes is not installed; .*\[quantize\]"):
        check_quantization("nf4", CPU, "train.quantize")


def test_a_device_that_lacks_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(supported_torch_devices={"cuda"}))
    with pytest.raises(NescioError, match="int8: bitsandbytes has nothing for cpu, only for cuda; set it to null"):
        check_quantization("int8", CPU, "train.quantize")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(NescioError, match=r"int8 needs .* capability 7\.5, this one has 7\.0; set it to nf4"):
        check_quantization("int8", torch.device("cuda", 0), "train.quantize")
    check_quantization("nf4", torch.device("cuda", 0), "train.quantize")


def test_a_model_that_is_too_large_is_refused_before_it_is_loaded(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_folder / "model.safetensors").write_bytes(b"")  # read, it would be another error
    monkeypatch.setattr(models, "free_memory", lambda: 1 << 10)
    with pytest.raises(NescioError, match=r"its weights take 0\.0 GiB as float32, and .* take a smaller model"):
        models.load_model(str(tiny_folder))
    monkeypatch.setattr(models, "free_memory", lambda: 130_000)  # between fp32 and nf4
    with pytest.raises(NescioError, match=r"train\.quantize: nf4 would take 0\.0 GiB in training"):
        models.load_model(str(tiny_folder))


def test_devices_are_chosen_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for there, chosen in ((True, "mps"), (False, "cpu")):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=there: there)
        assert models.best_device().type == chosen
        assert models.best_dtype() == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert models.best_device() == torch.device("cuda", 1)
