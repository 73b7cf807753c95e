"""The decode loop's attention on a CPU: the same numbers as attention written out, and no padding outside of it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, FalconConfig, FalconForCausalLM

from nescio.core.own_attention import replaceable
from nescio.engines.decode import cpu_attention
from nescio.engines.decode.batch import Batch, Row

Make = Callable[..., Any]


def written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """Attention one query at a time, in fp64."""
    out = torch.zeros(query.shape[0], query.shape[2], query.shape[1], query.shape[3], dtype=torch.float64)
    group = query.shape[1] // key.shape[1]
    for row, head, place in torch.cartesian_prod(*(torch.arange(n) for n in query.shape[:3])).tolist():
        seen = mask[row, 0, place]
        scores = key[row, head // group, seen].double() @ query[row, head, place].double() * scaling
        out[row, place, head] = scores.softmax(-1) @ value[row, head // group, seen].double()
    return out


@pytest.mark.parametrize("queries", [1, 4, 36])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_it_is_attention(queries: int, scaling: float | None) -> None:
    torch.manual_seed(queries)
    query, (key, value) = torch.randn(3, 6, queries, 8), torch.randn(2, 3, 2, 80, 8)[..., :64, :]
    mask = torch.rand(3, 1, queries, 64) < 0.5
    layer = SimpleNamespace(num_key_value_groups=3, is_causal=True)
    out, _ = cpu_attention.attention(layer, query, key, value, mask, scaling=scaling)
    assert out.double() == pytest.approx(written_out(query, key, value, mask, scaling or 8**-0.5), abs=1e-5)


def test_short_prompts_are_padded_inside_attention_alone(make_model: Make) -> None:
    model, seen = make_model("llama"), list[int]()
    model.get_input_embeddings().register_forward_hook(lambda module, given, out: seen.append(out.shape[1]))
    batch = Batch(model, 4096, 512)
    batch.slots.reserve(4, 64)
    seen.clear()  # of the probe
    prompts = [[5, 6, 7, 8, 9], [9, 3, 4]]
    with torch.inference_mode():
        logits = batch.extend(0, [Row([*ids]) for ids in prompts], 2048)
        alone = [model(torch.tensor([ids])).logits[0, -1] for ids in prompts]
    assert seen[0] == 8, "five tokens take two blocks of four"
    assert logits == pytest.approx(torch.stack(alone), abs=1e-4)
    assert model.config._attn_implementation == "sdpa", "training and scoring keep their own"


def test_a_model_that_looks_up_no_attention_keeps_its_own() -> None:
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "alibi": False}
    falcon = FalconForCausalLM(FalconConfig(**sizes, attn_implementation="sdpa")).eval()
    assert not replaceable(falcon)
    ids = [5, 6, 7, 8, 9]
    batch = Batch(falcon, 4096, 512)
    batch.slots.reserve(4, 64)
    with torch.inference_mode():
        logits, alone = batch.extend(0, [Row([*ids])], 2048), falcon(torch.tensor([ids])).logits[:, -1]
    assert logits == pytest.approx(alone, abs=1e-4)


SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 8, "max_position_embeddings": 256,
}  # fmt: skip
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("minicpm3", LATENT | {"head_dim": 4, "dim_model_base": 32}),  # its values are narrower than its keys
        ("doge", {}),  # its mask is what it adds to the scores
        ("cohere2", {"sliding_window": 8}),
        ("gpt_neox", {}),
    ],
)
def test_models_of_other_attention_decode_as_they_do_alone(kind: str, more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES | more)).eval()
    batch = Batch(model, 4096, 256)
    assert batch.has_cache and replaceable(model)
    batch.slots.reserve(4, 64)
    rows = [Row([*range(5, 18)]), Row([*range(20, 26)])]
    with torch.inference_mode():
        batch.extend(0, rows, 2048)
        for row in rows:
            row.ids.append(30)
        stepped = batch.extend(0, rows, 1)
        alone = [model(torch.tensor([row.ids])).logits[0, -1] for row in rows]
    assert stepped == pytest.approx(torch.stack(alone), abs=1e-5)


def test_a_step_in_16_bits_is_as_exact_as_the_fused_kernel() -> None:
    torch.manual_seed(0)
    query, (key, value) = 3 * torch.randn(4, 6, 1, 64), torch.randn(2, 4, 2, 256, 64)
    query, key, value = query.bfloat16(), (3 * key).bfloat16(), value.bfloat16()
    mask = torch.ones(4, 1, 1, 256, dtype=torch.bool)
    layer = SimpleNamespace(num_key_value_groups=3, is_causal=True)
    out, _ = cpu_attention.attention(layer, query, key, value, mask)
    off = (out.double() - written_out(query, key, value, mask, 1 / 8)).abs().mean()
    assert off < 2e-3  # 16-bit scores are off by 4e-3
