"""A tiny base, a LoRA adapter on it, and the merged model in each form that other programs read."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


class Adapted(NamedTuple):
    base: Path
    adapter: Path
    merged: Path


@pytest.fixture
def adapted(tmp_path: Path, make_model: Any, make_tokenizer: Any) -> Adapted:
    """Folders of a base, of an adapter and of their merged model; q, k and v are adapted, and one rank is its own."""
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    tokenizer = make_tokenizer()
    make_model("llama").save_pretrained(base)
    tokenizer.save_pretrained(base)
    torch.manual_seed(1)
    lora = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "up_proj"], init_lora_weights=False,
        rank_pattern={"up_proj": 2}, task_type="CAUSAL_LM",
    )  # fmt: skip
    trained = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), lora)
    trained.peft_config["default"].base_model_name_or_path = str(base)
    trained.save_pretrained(adapter)
    trained.merge_and_unload().save_pretrained(merged)
    tokenizer.save_pretrained(merged)
    return Adapted(base, adapter, merged)
