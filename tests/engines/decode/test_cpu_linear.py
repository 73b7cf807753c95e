"""Packed linear layers: the same numbers, whatever stands beside them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nescio.core.errors import NescioError
from nescio.core.models import multiplies_bf16
from nescio.core.shared_prefix import unpackable
from nescio.engines.decode import cpu_linear
from nescio.engines.decode.batch import Batch, Row
from nescio.engines.decode.cpu_linear import pack, packable, packed_in
from nescio.engines.torch_engine import TorchEngine

Make = Callable[..., Any]
# The kernels that oneDNN and PyTorch choose give a row the same bits on AMD's processors without AVX-512, where the
# engine was tuned. On Intel's with it they block some sizes by the number of rows: rows then agree to fp32 rounding.
CPU_INFO = Path("/proc/cpuinfo")
HAS_SAME_BITS = CPU_INFO.exists() and "AuthenticAMD" in (text := CPU_INFO.read_text()) and "avx512f" not in text
WORDS = ["Anna", "lives", "in", "Geneva", ".", "Tom", "and", "I"]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two rows of logits have the same bits, or agree to rounding where this processor gives no more."""
    return torch.equal(one, other) if HAS_SAME_BITS else torch.allclose(one, other, rtol=1e-4, atol=1e-4)


HAS_BF16 = pytest.mark.skipif(not multiplies_bf16(), reason="this processor has no products in bf16")
AS_KEPT = {"full": torch.float32, "half": torch.float16, "bf16": torch.bfloat16}


@pytest.mark.parametrize(
    ("precision", "bound"), [("full", 1e-5), ("half", 2e-2), pytest.param("bf16", 5e-2, marks=HAS_BF16)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_computes_what_it_did(precision: Any, bound: float, bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(48, 96, bias=bias), nn.Linear(96, 7, bias=bias))
    x, weight = torch.randn(3, 5, 48), model[0].weight.detach().clone()
    with torch.inference_mode():
        before = model(x)
        pack(model, precision)
        assert model(x) == pytest.approx(before, abs=bound)
        assert model(x[0, 0]) == pytest.approx(before[0, 0], abs=bound)
        assert model(x).dtype == torch.float32
    assert torch.equal(model[0].weight, weight.to(AS_KEPT[precision]).float())
    assert (model[0].in_features, model[0].out_features) == (48, 96)


@pytest.mark.parametrize("inputs", [64, 576, 1536])
@pytest.mark.parametrize("precision", ["full", pytest.param("bf16", marks=HAS_BF16)])
def test_a_row_has_the_same_bits_beside_any_others(inputs: int, precision: Any) -> None:
    torch.manual_seed(inputs)
    model, x = nn.Sequential(nn.Linear(inputs, 384)), torch.randn(67, inputs)
    pack(model, precision)
    with torch.inference_mode():
        whole = model(x)
        for rows in (1, 2, 3, 5, 8, 13, 32, 66):
            assert same(model(x[1 : 1 + rows].contiguous()), whole[1 : 1 + rows])


def test_a_row_alone_has_the_bits_that_it_has_beside_another_on_any_processor() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(1536, 576)), torch.randn(2, 1536)
    pack(model, "full")
    with torch.inference_mode():
        assert torch.equal(model(x[:1])[0], model(x)[0]) and torch.equal(model(x[0]), model(x)[0])


@pytest.mark.parametrize("style", ["llama", "qwen3", "gemma3", "mistral"])
@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_a_step_of_packed_rows_gives_each_what_it_gets_alone(make_model: Make, style: str, rows: int) -> None:
    model = make_model(style)
    pack(model, "full")
    assert packed_in(model) == "full"

    def step(prompts: list[list[int]]) -> torch.Tensor:
        own, given = Batch(model, 4096, 512), [Row([*ids]) for ids in prompts]
        own.slots.reserve(8, 64)
        with torch.inference_mode():
            for slot, row in enumerate(given):
                own.extend(slot, [row], 100)
                row.ids.append(9)
            return own.extend(0, given, 1)

    prompts = [[5 + n, *range(4, 8 + 3 * n)] for n in range(rows)]
    together = step(prompts)
    assert len(together) == rows
    for prompt, logits in zip(prompts, together, strict=True):
        assert same(step([prompt])[0], logits)


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("longest", [130, 230, 300, 420, 700, 1100])
@pytest.mark.parametrize("kind", ["prompt", "step"])
@pytest.mark.usefixtures("two_threads")
def test_long_rows_get_the_same_bits_beside_longer_ones(make_model: Make, longest: int, kind: str) -> None:
    sizes = {"hidden_size": 192, "num_attention_heads": 3, "num_key_value_heads": 1, "initializer_range": 0.1}
    model = make_model("llama", max_position_embeddings=2048, **sizes)
    pack(model, "full")
    prompts = [list(range(3, 3 + n)) for n in (longest, longest * 2 // 3, 47, 33, 9)]

    def computed(given: list[list[int]]) -> torch.Tensor:
        own, rows = Batch(model, 1 << 14, 2048), [Row([token % 300 for token in ids]) for ids in given]
        own.slots.reserve(8, 1216)
        with torch.inference_mode():
            logits = own.extend(0, rows, 2048)
            if kind == "step":
                for row in rows:
                    row.ids.append(9)
                logits = own.extend(0, rows, 1)
        return logits

    together = computed(prompts)
    for place, prompt in enumerate(prompts):
        assert same(computed([prompt])[0], together[place])


def test_a_model_is_packed_only_where_all_its_products_are(make_model: Make) -> None:
    gpt2, llama, bf16 = make_model("gpt2"), make_model("llama"), make_model("llama").bfloat16()
    assert packed_in(llama) is None
    for model in (gpt2, llama, bf16):
        pack(model, "full")
    assert packed_in(llama) == "full"
    assert packed_in(gpt2) is None, "its Conv1D are left as they are"
    assert not packable(bf16)
    assert type(bf16.lm_head) is nn.Linear


@pytest.mark.parametrize("precision", ["half", "int8"])
def test_smaller_weights_keep_the_tokens_likely(make_model: Make, chatml: Any, precision: Any) -> None:
    model = make_model("llama")
    pack(model, precision)
    half, full = TorchEngine(model, chatml), TorchEngine(make_model("llama"), chatml)
    for index in range(4):
        text = " ".join(WORDS[index:])
        bound = 0.05 if precision == "half" else 0.5
        assert half.score("Tom", text) == pytest.approx(full.score("Tom", text), abs=bound)
    with pytest.raises(NescioError, match=f"precision {precision}: for fp32 weights"):
        pack(make_model("llama").bfloat16(), precision)


@HAS_BF16
def test_bf16_keeps_the_tokens_likely_and_the_cache(make_model: Make, chatml: Any) -> None:
    model = make_model("llama")
    pack(model, "bf16")
    short, full = TorchEngine(model, chatml), TorchEngine(make_model("llama"), chatml)
    assert packed_in(model) == "bf16" and unpackable(model) is None
    for index in range(4):
        text = " ".join(WORDS[index:])
        assert short.score("Tom", text) == pytest.approx(full.score("Tom", text), abs=0.5)


def test_bf16_is_refused_where_it_is_emulated(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_linear, "multiplies_bf16", lambda: False)
    model = make_model("llama")
    pack(model, None)
    assert packed_in(model) == "full", "no error where nobody asked for it"
    with pytest.raises(NescioError, match="precision bf16: for fp32 weights on a CPU that multiplies bf16 itself"):
        pack(make_model("llama"), "bf16")


def test_a_precision_that_is_none_is_one_line(make_model: Make) -> None:
    unknown: Any = "quarter"
    with pytest.raises(NescioError, match=r"precision quarter: unknown; known here: full, half, bf16, int8$"):
        pack(make_model("llama"), unknown)


def test_a_weight_that_fp16_has_no_number_for_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    nn.init.constant_(model[0].weight, 1e6)
    with pytest.raises(NescioError, match="exceeds fp16"):
        pack(model, "half")
