"""Adapter folders: scaling against PEFT's own, the base found from anywhere, plain PEFT loads what we write."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from nescio.core.adapters import (
    adapter_base,
    factor_names,
    lora_config,
    read_config,
    read_notes,
    read_sentences,
    read_weights,
    write_config,
)
from nescio.core.errors import NescioError
from nescio.core.one_bit import compress, expand

Make = Callable[..., Any]
PATTERNS = [
    {"alpha_pattern": {"v_proj": 11, r"layers\.1\.mlp\..*_proj": 3}},
    {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 7}, "alpha_pattern": {"proj": 99, r"[qk]_proj": 5}},
    {"rank_pattern": {r".*\.0\..*": 3}, "alpha_pattern": {r".*\.0\..*": 7}, "use_rslora": True},
]


def save(model: Any, folder: Path, **changes: Any) -> Any:
    """Write a trained-looking adapter and return PEFT's model with it."""
    config = LoraConfig(task_type="CAUSAL_LM", **{"target_modules": "all-linear", "r": 4, "lora_alpha": 6} | changes)
    adapted = get_peft_model(model, config)
    torch.manual_seed(3)
    for name, tensor in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(tensor, std=0.2)
    adapted.save_pretrained(folder)
    return adapted


@pytest.mark.parametrize("changes", PATTERNS)
def test_scaling_and_ranks_are_pefts(make_model: Make, tmp_path: Path, changes: dict[str, Any]) -> None:
    adapted = save(make_model("llama"), tmp_path, **changes)
    config = read_config(tmp_path)
    modules, others = factor_names(read_weights(tmp_path))
    theirs = {
        name.removeprefix("base_model.model."): module
        for name, module in adapted.named_modules()
        if hasattr(module, "lora_A")
    }
    assert modules.keys() == theirs.keys() and not others and not config.special()
    for name, module in theirs.items():
        assert config.scaling(name) == pytest.approx(module.scaling["default"], rel=1e-12), name
        assert config.rank(name) == module.r["default"], name


@pytest.mark.parametrize("changes", PATTERNS)
def test_compressing_uses_the_scaling_that_peft_uses(make_model: Make, tmp_path: Path, changes: dict[str, Any]) -> None:
    adapted = save(make_model("llama"), tmp_path / "full", **changes)
    compress(tmp_path / "full", tmp_path / "bits", rank=64)
    tiny = expand(tmp_path / "bits")
    for path in ("model.layers.1.mlp.up_proj", "model.layers.0.self_attn.k_proj"):
        delta = adapted.get_submodule(f"base_model.model.{path}").get_delta_weight("default").detach()
        name = f"base_model.model.{path}.lora_"
        near = tiny[f"{name}B.weight"] @ tiny[f"{name}A.weight"]
        assert float((near - delta).square().sum() / delta.square().sum()) < 0.05, "near a delta of the same size"


def test_what_is_more_than_plain_lora_is_named() -> None:
    for values, named in (
        ({"peft_type": "IA3"}, "peft_type 'IA3'"),
        ({"peft_type": "LORA", "use_dora": True}, "use_dora"),
        ({"peft_type": "LORA", "bias": "all"}, "bias 'all'"),
        ({"peft_type": "LORA", "init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4'"),
    ):
        assert read_config_of(values).special() == [named]
    assert not read_config_of({"peft_type": "LORA", "init_lora_weights": True, "bias": "none"}).special()


def read_config_of(values: dict[str, Any]) -> Any:
    from nescio.core.adapters import AdapterConfig

    return AdapterConfig(Path("adapter"), values)


def write(adapter: Path, base: str, final: Path | None = None) -> None:
    """Write an adapter's configuration anew, as a run does."""
    write_config(adapter, read_config(adapter).values, base, final or adapter, positive="p", negative="n")


def test_plain_peft_loads_what_is_written_from_any_directory(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_model("llama").save_pretrained("run/tuned")
    adapted = save(make_model("llama"), Path("run/adapter")).eval()
    write(Path("run/adapter"), "run/tuned")
    ids = torch.tensor([[5, 6, 7]])
    for place in (tmp_path, tmp_path / "run"):
        monkeypatch.chdir(place)
        loaded = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "run/adapter")).eval()
        torch.testing.assert_close(loaded(ids).logits, adapted(ids).logits)


def test_a_moved_or_copied_run_uses_its_own_base(make_model: Make, tmp_path: Path) -> None:
    make_model("llama").save_pretrained(tmp_path / "run/tuned")
    save(make_model("llama"), tmp_path / "run/adapter")
    write(tmp_path / "run/adapter", str(tmp_path / "run/tuned"))
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert Path(adapter_base(tmp_path / "copy/adapter")).samefile(tmp_path / "copy/tuned")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert Path(adapter_base(tmp_path / "moved/adapter")).samefile(tmp_path / "moved/tuned")
    alone = shutil.copytree(tmp_path / "copy/adapter", tmp_path / "far/off/alone")
    with pytest.raises(NescioError, match=r"base_model_name_or_path: .*no such model"):
        adapter_base(alone)  # the base that its configuration names was moved away


def test_an_adapter_of_0_1_0_still_finds_its_base(make_model: Make, tmp_path: Path) -> None:
    make_model("llama").save_pretrained(tmp_path / "run/tuned")
    save(make_model("llama"), tmp_path / "run/adapter")
    path = tmp_path / "run/adapter/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "../tuned"}))
    (tmp_path / "run/adapter/nescio.json").write_text('{"positive": "p", "negative": "n", "epoch": 2}')
    assert Path(adapter_base(tmp_path / "run/adapter")).samefile(tmp_path / "run/tuned")
    assert read_sentences(tmp_path / "run/adapter") == {"positive": "p", "negative": "n"}


def test_the_base_is_absolute_for_peft_and_relative_for_us(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model("llama").save_pretrained(tmp_path / "run/tuned")
    save(make_model("llama"), tmp_path / "work/adapter")
    write(tmp_path / "work/adapter", str(tmp_path / "run/tuned"), final=tmp_path / "run/adapter")
    assert read_config(tmp_path / "work/adapter").values["base_model_name_or_path"] == str(tmp_path / "run/tuned")
    assert read_notes(tmp_path / "work/adapter")["base"] == "../tuned"
    write(tmp_path / "work/adapter", "owner/name")
    assert adapter_base(tmp_path / "work/adapter") == "owner/name"
    cached = tmp_path / "cache/smollm2-0123"
    cached.mkdir(parents=True)
    monkeypatch.setattr("nescio.core.adapters.resolve", lambda name: str(cached) if name == "smollm2" else name)
    write(tmp_path / "work/adapter", "smollm2")
    assert read_config(tmp_path / "work/adapter").values["base_model_name_or_path"] == str(cached)
    assert read_notes(tmp_path / "work/adapter")["base"] == "smollm2", "found again where the cache is elsewhere"


def test_a_written_configuration_is_pefts(make_model: Make, tmp_path: Path) -> None:
    ranks = {"model.layers.0.self_attn.q_proj": 2, "model.layers.1.self_attn.q_proj": 3}
    model = make_model("llama")
    get_peft_model(model, LoraConfig(**lora_config(ranks) | {"inference_mode": False})).save_pretrained(tmp_path)
    shapes = {name: len(value) for name, value in load_file(tmp_path / "adapter_model.safetensors").items()}
    assert {shapes[f"base_model.model.{name}.lora_A.weight"] for name in ranks} == {2, 3}
    loaded = PeftModel.from_pretrained(make_model("llama"), str(tmp_path))
    assert all(m.scaling["default"] == 1 for m in loaded.modules() if hasattr(m, "lora_A"))


def test_damaged_configurations_are_one_line(tmp_path: Path) -> None:
    for content, complaint in (
        ("[]", "not a JSON object"),
        ("{", "not a JSON object"),
        ('{"alpha_pattern": {"(": 3}}', "alpha_pattern: not a regular expression"),
    ):
        (tmp_path / "adapter_config.json").write_text(content)
        with pytest.raises(NescioError, match=complaint) as caught:
            read_config(tmp_path)
        assert "\n" not in str(caught.value)
