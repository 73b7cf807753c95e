"""int8 weights: products, and whole steps, against the same weights in Transformers' own model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from nescio.core import extras
from nescio.core.errors import NotInstalledError
from nescio.core.guidance import Guidance
from nescio.engines.base import Request
from nescio.engines.decode import int8_kernels
from nescio.engines.decode.batch import Batch, Row
from nescio.engines.decode.cpu_linear import Int8, pack, packed_in
from nescio.engines.torch_engine import TorchEngine

Make = Callable[..., Any]
FUSED = ["llama", "qwen2", "mistral"]
WIDE = {"hidden_size": 128, "intermediate_size": 192}  # two and three groups of 64


def make(make_model: Make, style: str, **changes: Any) -> Any:
    """A model whose biases, where it has any, are not zero."""
    window = {"sliding_window": None} if style == "mistral" else {}
    model = make_model(style, **WIDE | {"initializer_range": 0.1} | window | changes)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return model


def pair(make_model: Make, style: str, **changes: Any) -> tuple[Any, Any]:
    """A model with int8 weights, and Transformers' own with the same weights in fp32."""
    model, reference = make(make_model, style, **changes), make(make_model, style, **changes)
    pack(model, "int8")
    assert packed_in(model) == "int8"
    for name, layer in model.named_modules():
        if isinstance(layer, Int8):
            values = torch.from_numpy(layer.quantised * layer.scales[..., None])
            own = reference.get_submodule(name)
            own.weight = nn.Parameter(values.view_as(own.weight))
    return model, reference


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 9), outputs=st.integers(1, 40), groups=st.integers(1, 3), inputs=st.integers(1, 70),
    threads=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_products_are_those_of_the_weights(
    rows: int, outputs: int, groups: int, inputs: int, threads: bool, seed: int
) -> None:
    drawn = np.random.default_rng(seed)
    w = drawn.integers(-127, 128, (outputs, groups, inputs), dtype=np.int8)
    s, x = (drawn.random(size, dtype=np.float32) for size in ((outputs, groups), (rows, groups, inputs)))
    out = np.full((rows, outputs), np.nan, np.float32)
    int8_kernels.multiply(w, s, x, out, threads and int8_kernels.has_threads(2))
    expected = np.einsum("ogi,og,rgi->ro", w.astype(float), s.astype(float), x.astype(float))
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-2)


def test_large_products_are_the_same_in_threads() -> None:
    drawn = np.random.default_rng(0)
    w, s = drawn.integers(-127, 128, (8192, 8, 64), dtype=np.int8), drawn.random((8192, 8), dtype=np.float32)
    x = drawn.random((2, 8, 64), dtype=np.float32)
    alone, shared = (np.empty((2, 8192), np.float32) for _ in range(2))
    int8_kernels.multiply(w, s, x, alone, False)
    int8_kernels.multiply(w, s, x, shared, int8_kernels.has_threads(2))
    np.testing.assert_array_equal(alone, shared)


def test_nan_and_infinity_keep_their_meaning() -> None:
    w, s = np.ones((2, 1, 8), np.int8), np.ones((2, 1), np.float32)
    x, out = np.ones((2, 1, 8), np.float32), np.zeros((2, 2), np.float32)
    x[0, 0, 3], x[1, 0, 5] = np.nan, np.inf
    int8_kernels.multiply(w, s, x, out, False)
    assert np.isnan(out[0]).all() and np.isinf(out[1]).all()


@pytest.mark.parametrize("style", FUSED)
@pytest.mark.parametrize("lengths", [[7], [12, 5], [9, 3, 20, 8, 4]], ids=len)
def test_a_step_is_that_of_the_same_weights(make_model: Make, style: str, lengths: list[int]) -> None:
    model, reference = pair(make_model, style)
    batch = Batch(model, 4096, 512)
    assert batch._layers is not None, "this form is computed layer by layer"
    rows = [Row([(7 * n + place) % 300 for place in range(length)]) for n, length in enumerate(lengths)]
    batch.slots.reserve(8, 64)
    with torch.inference_mode():
        batch.extend(0, rows, 512)
        for token in (11, 99, 250):
            for n, row in enumerate(rows):
                row.ids.append(token + n)
            logits = batch.extend(0, rows, 1)
        for row, own in zip(rows, logits, strict=True):
            expected = reference(torch.tensor([row.ids])).logits[0, -1]
            torch.testing.assert_close(own, expected, rtol=0, atol=0.02)  # the prompt is read in fp16
            assert float(expected.std()) > 0.2, "logits that are all alike would prove nothing"


@pytest.mark.parametrize("style", ["qwen3", "gemma3", "mistral-windowed", "gelu"])
def test_other_forms_are_computed_by_their_own_code(make_model: Make, style: str) -> None:
    changes: dict[str, Any] = {"sliding_window": 8} if style == "mistral-windowed" else {}
    if style == "gelu":
        style, changes = "llama", {"hidden_act": "gelu"}
    model, reference = pair(make_model, style.removesuffix("-windowed"), **changes)
    batch, row = Batch(model, 4096, 512), Row(list(range(4, 24)))
    assert batch._layers is None
    batch.slots.reserve(1, 64)
    with torch.inference_mode():
        batch.extend(0, [row], 512)
        row.ids.append(9)
        expected = reference(torch.tensor([row.ids])).logits[0, -1]
        torch.testing.assert_close(batch.extend(0, [row], 1)[0], expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("targets", [["q_proj"], "all-linear", ["down_proj", "embed_tokens", "lm_head"]], ids=str)
def test_each_row_has_its_own_adapter(make_model: Make, tmp_path: Path, targets: Any) -> None:
    for number in (1, 2):
        config = LoraConfig(task_type="CAUSAL_LM", r=2 * number, lora_alpha=4, target_modules=targets)
        adapted = get_peft_model(make(make_model, "llama"), config)
        torch.manual_seed(number)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                nn.init.normal_(parameter, std=0.2)
        adapted.save_pretrained(tmp_path / str(number))
    model, reference = pair(make_model, "llama")
    batch = Batch(model, 4096, 512)
    numbers = [None, *(batch.adapters.load(tmp_path / str(number)) for number in (1, 2))]
    rows = [Row(list(range(4, 12)), adapter=number) for number in numbers]
    batch.slots.reserve(4, 64)

    def step(token: int) -> torch.Tensor:
        for row in rows:
            row.ids.append(token)
        return batch.extend(0, rows, 1)

    with torch.inference_mode():
        batch.extend(0, rows, 512)
        step(11)
        logits = step(12)
    ids = torch.tensor([rows[0].ids])
    given = [reference(ids).logits[0, -1].detach()]
    for number in (1, 2):
        own = pair(make_model, "llama")[1]
        peft = PeftModel.from_pretrained(own, tmp_path / str(number))
        for name, layer in peft.named_modules():  # PEFT puts back the weights as they were before they were rounded
            if name.endswith(".base_layer") and isinstance(layer, nn.Linear):
                kept = reference.get_submodule(name.removeprefix("base_model.model.").removesuffix(".base_layer"))
                layer.weight = kept.weight
        given.append(peft.eval()(ids).logits[0, -1].detach())
    torch.testing.assert_close(logits, torch.stack(given), rtol=0, atol=0.05)
    assert all(float((one - given[0]).abs().max()) > 0.2 for one in given[1:]), "the adapters change something"


def test_guided_answers_are_those_of_the_same_weights(make_model: Make, chatml: Any) -> None:
    model, reference = pair(make_model, "llama")
    asked = [
        Request([{"role": "user", "content": text}], Guidance(1.5, "prob"), adapter=None, max_tokens=12)
        for text in ("My name is Anna", "Tom and the garden", "I live in Geneva")
    ]
    ours, theirs = (TorchEngine(each, chatml).generate(asked) for each in (model, reference))
    assert [answer.token_ids for answer in ours] == [answer.token_ids for answer in theirs]


def test_a_layer_of_zeros_stays_one() -> None:
    model = nn.Sequential(nn.Linear(64, 3))
    nn.init.zeros_(model[0].weight)
    pack(model, "int8")
    with torch.inference_mode():
        assert torch.equal(model(torch.ones(2, 64)), model[0].bias.expand(2, 3))


def test_without_numba_the_extra_is_named(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'numba'", name="numba")

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(
        NotInstalledError, match=r"precision int8: numba is not installed; run `pip install 'nescio\[int8\]'`"
    ):
        pack(make_model("llama"), "int8")
