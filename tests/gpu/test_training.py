"""Training on this machine's device, a GPU where there is one: packed rows, FlexAttention, resume, memory, QLoRA."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import LORA, SETTINGS, UNITS, adapter_of, largest_difference
from torch import Tensor

from nescio.core.models import best_device, load_model
from nescio.core.shared_prefix import log_probs, pack
from nescio.training.losses.orpo import orpo
from nescio.training.memory import largest_step, training_bytes
from nescio.training.trainer import fit

DEVICE = best_device()
ON_GPU = DEVICE.type == "cuda"
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a CUDA GPU, there is none here")
ORPO = orpo.bind(beta=0.1)
HOW = replace(SETTINGS, lora=replace(LORA, dropout=0.0))
Make = Callable[..., Any]


def trained(model: Any, work: Path, **changes: Any) -> Any:
    return fit(model.to(DEVICE), UNITS, loss=ORPO, settings=replace(HOW, **changes), work=work, test=UNITS)


@pytest.mark.parametrize(
    "changes", [{"row_tokens": None}, {"gradient_checkpointing": True}], ids=["unpacked", "checkpointed"]
)
def test_a_packed_step_is_the_same(make_model: Make, tmp_path: Path, changes: dict[str, Any]) -> None:
    one = trained(make_model("llama"), tmp_path / "one")
    other = trained(make_model("llama"), tmp_path / "other", **changes)
    if ON_GPU:  # products in bf16, and sums without a fixed order: they part from the first update on
        assert one.log[0]["loss"] == pytest.approx(other.log[0]["loss"], rel=0.02)
        return
    assert [row["loss"] for row in one.log] == pytest.approx([row["loss"] for row in other.log], rel=1e-4)
    assert largest_difference(adapter_of(one.model), adapter_of(other.model)) < 1e-3


@needs_gpu  # on a CPU it has no backward pass; tests/core/test_shared_prefix.py has its forward pass there
def test_flex_attention_sees_what_the_dense_mask_shows(make_model: Make) -> None:
    groups = [example.group for unit in UNITS[:3] for example in unit]

    def computed(attention: str) -> tuple[Tensor, Tensor]:
        model = make_model("llama", head_dim=16).to(DEVICE)
        model.set_attn_implementation(attention)
        values = log_probs(model, pack(groups).to(DEVICE))
        values.sum().backward()
        return values.detach(), model.model.layers[0].self_attn.k_proj.weight.grad

    (flex, flex_grad), (dense, dense_grad) = computed("flex_attention"), computed("sdpa")
    torch.testing.assert_close(flex, dense, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(flex_grad, dense_grad, rtol=1e-2, atol=1e-2)


class KilledError(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_tensors(make_model: Make, tmp_path: Path) -> None:
    def at_the_fifth(done: int, total: int) -> None:
        if done == 5:
            raise KilledError

    def run(folder: str, progress: Any = None) -> Any:
        model = make_model("llama").to(DEVICE)
        return fit(model, UNITS, loss=ORPO, settings=SETTINGS, work=tmp_path / folder, progress=progress)

    whole = run("whole")
    with pytest.raises(KilledError):
        run("cut", at_the_fifth)
    difference = largest_difference(adapter_of(whole.model), adapter_of(run("cut").model))
    assert difference <= (0.05 if ON_GPU else 0)


def test_qlora_packed_equals_unpacked(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'nescio[quantize]'")
    one, other = (
        trained(load_model(str(tiny_folder), quantize="nf4").model, tmp_path / str(rows), row_tokens=rows)
        for rows in (1024, None)
    )
    place, close = (0, 0.02) if ON_GPU else (-1, 1e-4)
    assert one.log[place]["loss"] == pytest.approx(other.log[place]["loss"], rel=close)


@needs_gpu
def test_memory_is_as_computed(make_model: Make, tmp_path: Path) -> None:
    from nescio.core.model_size import ModelSize
    from nescio.core.models import release

    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 16}
    release()
    before = torch.cuda.memory_allocated()
    model = make_model("llama", **sizes, num_key_value_heads=4, vocab_size=32000).to(DEVICE, torch.bfloat16)
    size = ModelSize.of(model.config)
    weights = torch.cuda.memory_allocated() - before
    assert weights == pytest.approx(size.bytes_of_weights(torch.bfloat16), rel=0.05)
    long = [[replace(unit[0], group=replace(unit[0].group, prompt=[5] * 400))] for unit in UNITS]
    torch.cuda.reset_peak_memory_stats()
    fit(model, long, loss=ORPO, settings=HOW, work=tmp_path)
    peak = torch.cuda.max_memory_allocated() - before
    assert 0.5 < peak / training_bytes(size, largest_step(long, HOW), torch.bfloat16, None) < 2
