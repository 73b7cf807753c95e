"""Whether a training fits the GPU's memory, and what is said if it does not."""

from pathlib import Path

import pytest
import torch
from tiny_run import Quiet
from transformers import LlamaConfig

from nescio.core.errors import NescioError
from nescio.core.model_size import ModelSize
from nescio.core.models import load_model
from nescio.pipeline import memory
from nescio.pipeline.memory import check_memory
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Run
from nescio.training.memory import Load, training_bytes

GIB = 2**30
STEP = Load(tokens=4096, scored=600, rank=16, checkpointing=False)


@pytest.fixture
def llama(tmp_path: Path) -> str:
    """A folder that holds nothing but the configuration of a Llama-3-8B."""
    LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256,
    ).save_pretrained(tmp_path)  # fmt: skip
    return str(tmp_path)


def said(monkeypatch: pytest.MonkeyPatch, model: str, free: float | None) -> list[str]:
    notes: list[str] = []
    monkeypatch.setattr(memory, "free_memory", lambda: None if free is None else free * GIB)
    monkeypatch.setattr(memory, "best_dtype", lambda: torch.bfloat16)
    check_memory(model, STEP, None, "train", notes.append)
    return notes


def test_what_fits_passes_without_a_word(monkeypatch: pytest.MonkeyPatch, llama: str) -> None:
    assert said(monkeypatch, llama, 200) == said(monkeypatch, llama, None) == []


def test_what_may_run_out_is_noted_with_the_smallest_change(monkeypatch: pytest.MonkeyPatch, llama: str) -> None:
    (note,) = said(monkeypatch, llama, 47)
    assert "train: the longest step takes about" in note
    assert "train.gradient_checkpointing: true would take" in note and "quantize" not in note


def test_weights_that_do_not_fit_are_refused_with_what_would(monkeypatch: pytest.MonkeyPatch, llama: str) -> None:
    with pytest.raises(NescioError, match=r"take 15\.\d GiB.*train\.quantize: nf4 and .*_checkpointing: true would"):
        said(monkeypatch, llama, 11)
    with pytest.raises(NescioError, match=r"lower train\.batch_size, or take a smaller model"):
        said(monkeypatch, llama, 2)


def test_each_part_counts(llama: str) -> None:
    size = ModelSize.of(LlamaConfig.from_pretrained(llama))
    whole = training_bytes(size, STEP, torch.bfloat16, None)
    assert (
        training_bytes(size, STEP, torch.bfloat16, "nf4") < training_bytes(size, STEP, torch.bfloat16, "int8") < whole
    )
    none = Load(tokens=0, scored=0, rank=16, checkpointing=False)
    assert training_bytes(size, none, torch.bfloat16, None) == 2 * size.weights + 16 * 16 * size.lora_width


def test_a_tuned_model_is_merged_into_weights_that_are_not_rounded(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'nescio[quantize]'")
    Run(load_recipe(world / "recipe.yaml", ["tune.quantize=nf4"]), tmp_path / "run", Quiet()).execute("tune")
    base, tuned = (load_model(str(folder)).model.state_dict() for folder in (world / "base", tmp_path / "run/tuned"))
    name = "model.layers.0.mlp.down_proj.weight"
    change = tuned[name] - base[name]
    assert 0 < torch.linalg.matrix_rank(change, rtol=1e-3) <= 4, "the adapter's rank; rounding would have them all"
    assert torch.equal(tuned["model.embed_tokens.weight"], base["model.embed_tokens.weight"])
