"""Adapters of one bit a weight: what is written, what is attached, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core import one_bit
from nescio.core.errors import NescioError
from nescio.core.one_bit import compress, expand, sign_terms
from nescio.engines.decode.lora import Adapters

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def adapter_in(folder: Path, model: Any, signs: bool = False, **changes: Any) -> Path:
    """A trained-looking adapter; with `signs`, one whose delta is a sum of two terms of signs already."""
    config = LoraConfig(task_type="CAUSAL_LM", **{"target_modules": "all-linear", "r": 2, "lora_alpha": 6} | changes)
    adapted = get_peft_model(model, config)
    torch.manual_seed(3)
    for name, tensor in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(tensor, std=0.2)
            if signs:
                tensor.data = tensor.data.sign() * (0.2 if "lora_B" in name else 1.0)
    adapted.save_pretrained(folder)
    return folder


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_bits_come_back(rows: int, columns: int, seed: int) -> None:
    signs = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).sign()
    assert torch.equal(one_bit._from_bits(one_bit._to_bits(signs), (rows, columns)), signs)


def test_each_term_brings_the_sum_nearer() -> None:
    torch.manual_seed(0)
    delta = torch.randn(24, 4) @ torch.randn(4, 40)
    left = []
    for terms in (1, 4, 16, 64):
        u, v, scale = sign_terms(delta, terms)
        assert set(u.unique().tolist()) | set(v.unique().tolist()) == {-1.0, 1.0}
        left.append(float((delta - (u * scale) @ v).square().sum() / delta.square().sum()))
    assert left == sorted(left, reverse=True)
    assert left[0] < 0.9 and left[-1] < 0.01


def test_scales_are_the_best_for_their_signs() -> None:
    torch.manual_seed(0)
    delta = torch.randn(10, 12)
    u, v, scale = sign_terms(delta, 3)
    best = float((delta - (u * scale) @ v).square().sum())
    for change in torch.eye(3) * 0.05:
        assert float((delta - (u * (scale + change)) @ v).square().sum()) > best


@pytest.mark.parametrize("held", [False, True], ids=["first adapter", "second adapter"])
def test_signs_are_kept_exactly_and_attached(make_model: Callable[..., Any], tmp_path: Path, held: bool) -> None:
    source = adapter_in(tmp_path / "full", make_model("llama"), signs=True, r=1)
    done = compress(source, tmp_path / "tiny")
    assert done.kept == pytest.approx(1.0, abs=1e-6)
    model = make_model("llama")
    bare = model(IDS).logits
    expected = PeftModel.from_pretrained(make_model("llama"), str(source)).eval()(IDS).logits
    adapters = Adapters(model)
    if held:
        adapters.load(adapter_in(tmp_path / "other", make_model("llama")))
    with adapters.rows([adapters.load(tmp_path / "tiny")] * len(IDS)):
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model(IDS).logits, bare)


def test_it_is_a_small_file_and_says_what_it_kept(make_model: Callable[..., Any], tmp_path: Path) -> None:
    wide = make_model("llama", hidden_size=256, intermediate_size=512)
    source = adapter_in(tmp_path / "full", wide, r=8, rank_pattern={"q_proj": 4}, alpha_pattern={"q_proj": 1})
    (source / "nescio.json").write_text('{"positive": "p"}')
    done = compress(source, tmp_path / "tiny")
    assert done.before == (source / "adapter_model.safetensors").stat().st_size
    assert done.after == (tmp_path / "tiny/adapter_bits.safetensors").stat().st_size
    assert done.after < done.before / 15
    assert json.loads((tmp_path / "tiny/nescio.json").read_text())["positive"] == "p"
    full, tiny = load_file(source / "adapter_model.safetensors"), expand(tmp_path / "tiny")
    lost = energy = 0.0
    for a_name in (name for name in full if "lora_A" in name):
        b_name = a_name.replace("lora_A", "lora_B")
        delta = (1 / 4 if "q_proj" in a_name else 6 / 8) * full[b_name] @ full[a_name]
        lost += float((delta - tiny[b_name] @ tiny[a_name]).square().sum())
        energy += float(delta.square().sum())
        assert tiny[a_name].abs().unique().tolist() == [1.0], "the scales are on B's columns"
    assert done.kept == pytest.approx(1 - lost / energy, abs=1e-4)
    assert 0.2 < done.kept < 1
    Adapters(make_model("llama", hidden_size=256, intermediate_size=512)).load(tmp_path / "tiny")


def test_more_terms_keep_more(make_model: Callable[..., Any], tmp_path: Path) -> None:
    source = adapter_in(tmp_path / "full", make_model("llama"))
    kept = [compress(source, tmp_path / str(rank), rank).kept for rank in (1, 2, 8)]
    assert kept == sorted(kept) and kept[2] > kept[1] > kept[0]


def test_it_still_knows_its_base(make_model: Callable[..., Any], tmp_path: Path) -> None:
    source = adapter_in(tmp_path / "run/adapter", make_model("llama"))
    make_model("llama").save_pretrained(tmp_path / "run/tuned")
    config = source / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "../tuned"}))
    compress(source, tmp_path / "far/off/tiny")
    told = json.loads((tmp_path / "far/off/tiny/adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str(tmp_path / "run/tuned")
    notes = json.loads((tmp_path / "far/off/tiny/nescio.json").read_text())
    assert notes["base"] == "../../../run/tuned"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "not a PEFT adapter"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}'), "only plain LoRA"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"no"), "damaged"),
    ],
)
def test_what_is_no_plain_lora_is_refused(
    make_model: Callable[..., Any], tmp_path: Path, spoil: Callable[[Path], object], complaint: str
) -> None:
    source = adapter_in(tmp_path / "full", make_model("llama"))
    spoil(source)
    with pytest.raises(NescioError, match=complaint):
        compress(source, tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()


def test_dora_and_embeddings_are_refused(make_model: Callable[..., Any], tmp_path: Path) -> None:
    dora = adapter_in(tmp_path / "dora", make_model("llama"), use_dora=True)
    with pytest.raises(NescioError, match="only plain LoRA can be compressed, not use_dora"):
        compress(dora, tmp_path / "tiny")
    embedding = adapter_in(tmp_path / "embedding", make_model("llama"), target_modules=["embed_tokens"])
    with pytest.raises(NescioError, match="LoRA on linear layers"):
        compress(embedding, tmp_path / "tiny")


def test_a_damaged_or_foreign_one_is_refused(make_model: Callable[..., Any], tmp_path: Path) -> None:
    compress(adapter_in(tmp_path / "full", make_model("llama")), tmp_path / "tiny")
    with pytest.raises(NescioError, match="does not fit the model"):
        Adapters(make_model("gpt2")).load(tmp_path / "tiny")
    with pytest.raises(NescioError, match="does not fit the model"):
        Adapters(make_model("llama", hidden_size=64)).load(tmp_path / "tiny")
    bits = tmp_path / "tiny/adapter_bits.safetensors"
    bits.write_bytes(bits.read_bytes()[:-10])
    with pytest.raises(NescioError, match="damaged"):
        Adapters(make_model("llama")).load(tmp_path / "tiny")


def test_the_command(make_model: Callable[..., Any], tmp_path: Path) -> None:
    source = adapter_in(tmp_path / "full", make_model("llama"))
    done = CliRunner().invoke(app, ["adapter", "compress", str(source), str(tmp_path / "tiny"), "--rank", "3"])
    assert done.exit_code == 0 and "smaller" in done.output
    assert json.loads((tmp_path / "tiny/adapter_config.json").read_text())["r"] == 3
    again = CliRunner().invoke(app, ["adapter", "compress", str(source), str(tmp_path / "tiny")])
    assert isinstance(again.exception, NescioError) and "exists already" in str(again.exception)
