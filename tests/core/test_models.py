"""Finding and loading models: conversion once and whole, and one clear line for whatever is missing or damaged."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model

from nescio.core import model_source
from nescio.core.adapters import read_sentences
from nescio.core.errors import NescioError
from nescio.core.model_source import check_model_name, identity, resolve
from nescio.core.models import load_model, load_tokenizer, locate, one_adapter, release
from nescio.engines.decode.lora import Adapters
from nescio.engines.torch_engine import load

Make = Callable[..., Any]


def write_gguf(path: Path, model: Any, tokenizer: Any) -> None:
    """A tiny Llama-style model as GGUF in fp32, the query and key weights in GGUF's order of rotary halves."""
    config, writer = model.config, gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    merges = [" ".join(pair) for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(pieces)
    writer.add_token_types([3 if piece in tokenizer.all_special_tokens else 1 for piece in pieces])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    state = model.state_dict()
    for name in ("token_embd", "output_norm", "output"):
        source = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}[name]
        writer.add_tensor(f"{name}.weight", state[f"{source}.weight"].numpy())
    for layer in range(config.num_hidden_layers):
        _write_layer(writer, state, config, layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_layer(writer: gguf.GGUFWriter, state: dict[str, torch.Tensor], config: Any, layer: int) -> None:
    parts = {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    }  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, source in parts.items():
        weight = state[f"model.layers.{layer}.{source}.weight"].numpy()
        if name in heads:
            shape = weight.shape
            weight = weight.reshape(heads[name], 2, -1, shape[1]).swapaxes(1, 2).reshape(shape)
        writer.add_tensor(f"blk.{layer}.{name}.weight", np.ascontiguousarray(weight))


@pytest.fixture
def tiny_gguf(tmp_path: Path, make_model: Make, chatml: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NESCIO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.gguf"
    write_gguf(path, make_model("llama"), chatml)
    return path


def save_adapter(model: Any, folder: Path, targets: list[str]) -> Path:
    get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False)).save_pretrained(folder)
    return folder


def test_a_gguf_is_converted_once_and_is_the_same_model(tiny_gguf: Path, make_model: Make) -> None:
    loaded = load_model(str(tiny_gguf))
    ids = torch.arange(6, 40)[None]
    with torch.no_grad():
        assert torch.allclose(loaded.model(ids).logits, make_model("llama")(ids).logits, atol=1e-4)
    folder = Path(resolve(str(tiny_gguf)))
    before = (folder / "config.json").stat().st_mtime_ns
    assert Path(resolve(str(tiny_gguf))) == folder
    assert (folder / "config.json").stat().st_mtime_ns == before, "converted a second time"


def test_two_processes_at_once_convert_once_and_leave_nothing_beside(tiny_gguf: Path) -> None:
    code = (
        "import sys, nescio.core.model_source as m, time\n"
        "convert = m._convert_gguf\n"
        "def counted(*a): print('converted'); time.sleep(1); convert(*a)\n"
        "m._convert_gguf = counted\n"
        "print(m.resolve(sys.argv[1]))\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tiny_gguf)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(lines.count("converted") for lines in said) == 1
    assert said[0][-1] == said[1][-1]
    left = [p for p in (tiny_gguf.parent / "cache").iterdir() if p.suffix != ".lock"]
    assert left == [Path(said[0][-1])]


def test_a_conversion_that_breaks_off_leaves_nothing_and_is_done_again(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(gguf_path: Path, out: Path) -> None:
        out.mkdir()
        (out / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model_source, "_convert_gguf", breaks)
        resolve(str(tiny_gguf))
    assert [p for p in (tiny_gguf.parent / "cache").iterdir() if p.suffix != ".lock"] == []
    assert (Path(resolve(str(tiny_gguf))) / "model.safetensors").is_file()


@pytest.mark.parametrize("size", [0, 3, 100, 5000, 60_000, -100])
def test_a_truncated_gguf_is_one_line_and_leaves_nothing(tiny_gguf: Path, size: int) -> None:
    tiny_gguf.write_bytes(tiny_gguf.read_bytes()[:size])
    with pytest.raises(NescioError, match="not a GGUF that can be read") as caught:
        resolve(str(tiny_gguf))
    assert "\n" not in str(caught.value)
    assert [p for p in (tiny_gguf.parent / "cache").iterdir() if p.suffix != ".lock"] == []


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "none.gguf", "none", "a/b/c", "~nosuch/m"])
def test_what_is_not_there_is_one_line(name: str) -> None:
    for look in (check_model_name, resolve):
        with pytest.raises(NescioError, match=r"no such"):
            look(name)


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NescioError, match=r"config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(NescioError, match=r"is the folder of a run; name its adapter, .*/adapter$"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("config", ["config.json", "adapter_config.json"])
def test_a_model_may_stand_beside_a_recipe(tmp_path: Path, config: str) -> None:
    for name in ("recipe.yaml", config):
        (tmp_path / name).touch()
    assert resolve(str(tmp_path)) == str(tmp_path)


def test_a_name_is_checked_without_a_conversion(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_source, "_converted", None)
    for name in (str(tiny_gguf), "smollm2", "owner/name"):
        check_model_name(name)


def test_a_folder_loads(tiny_folder: Path) -> None:
    loaded = load_model(str(tiny_folder))
    assert loaded.adapter is None
    assert loaded.tokenizer.pad_token_id is not None
    assert not loaded.model.training


def test_a_folder_without_a_tokenizer_is_one_line(tiny_folder: Path) -> None:
    for file in tiny_folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(NescioError, match="tokenizer") as caught:
        load_model(str(tiny_folder))
    assert "\n" not in str(caught.value)


def test_a_model_without_a_chat_template_loads_and_says_so_when_asked_to_chat(tiny_folder: Path) -> None:
    (tiny_folder / "chat_template.jinja").unlink()
    engine = load(str(tiny_folder))
    assert engine.complete("Anna", max_tokens=2)
    with pytest.raises(NescioError, match="no chat template"):
        engine.chat([{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize("kept", [0, 4, 200, 20_000])
def test_damaged_safetensors_are_one_line(tiny_folder: Path, kept: int) -> None:
    weights = tiny_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(NescioError, match="cannot be loaded") as caught:
        load_model(str(tiny_folder))
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_or_would_have_to_be_unpickled_are_refused(tiny_folder: Path) -> None:
    (tiny_folder / "model.safetensors").unlink()
    torch.save({}, tiny_folder / "pytorch_model.bin")
    with pytest.raises(NescioError, match="cannot be loaded"):
        load_model(str(tiny_folder))


def test_a_damaged_config_is_one_line(tiny_folder: Path) -> None:
    (tiny_folder / "config.json").write_text("{")
    with pytest.raises(NescioError) as caught:
        load_model(str(tiny_folder))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_eos_is_one_line(tiny_folder: Path) -> None:
    path = tiny_folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": None}))
    with pytest.raises(NescioError, match="EOS"):
        load_tokenizer(str(tiny_folder))


def test_an_adapter_folder_loads_with_its_base(tiny_folder: Path, tmp_path: Path) -> None:
    base = load_model(str(tiny_folder)).model
    adapter = save_adapter(base, tmp_path / "adapter", ["q_proj", "down_proj"])
    (adapter / "nescio.json").write_text('{"positive": "Say nothing."}')
    engine = load(str(adapter))
    assert engine.capabilities.adapters == ("default",)
    assert engine.sentences["positive"] == "Say nothing."
    plain, with_base = load(str(tiny_folder)), load(str(tiny_folder), adapter)
    assert engine.complete("Anna", max_tokens=8) == with_base.complete("Anna", max_tokens=8)
    assert engine.complete("Anna", max_tokens=8, adapter=None) == plain.complete("Anna", max_tokens=8)
    assert load_tokenizer(str(adapter)).eos_token_id == plain.tokenizer.eos_token_id


def rebase(adapter: Path, base: str) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))


def test_of_two_adapters_none_is_left_out_silently(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    assert one_adapter(None, None) is None
    assert one_adapter(own, None) == own and one_adapter(None, str(other)) == other
    assert one_adapter(own, tmp_path / "other" / ".." / "own") == own, "named twice"
    with pytest.raises(NescioError, match=r"own: is an adapter, and .*other is another"):
        one_adapter(own, other)


def test_a_base_is_found_from_any_directory_and_in_a_moved_run(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "mine"
    adapter = save_adapter(load_model(str(tiny_folder)).model, run / "adapter", ["q_proj"])
    shutil.copytree(tiny_folder, run / "tuned")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rebase(adapter, "mine/tuned")  # as PEFT names it, from where it was trained: not to be sought on the hub
    assert locate(str(adapter))[0] == str(run / "tuned")
    assert load_tokenizer(str(adapter)).eos_token_id is not None
    rebase(adapter, "../tuned")
    moved = run.rename(tmp_path / "elsewhere/yours")
    (moved / "adapter/epoch-1").mkdir()
    shutil.copy(moved / "adapter/adapter_config.json", moved / "adapter/epoch-1")
    for place in ("yours/adapter", "yours/adapter/epoch-1"):
        assert Path(locate(place)[0]).samefile(moved / "tuned")


@pytest.mark.parametrize(("base", "said"), [("../tuned", "no such model"), ("", "names no base"), (3, "names no base")])
def test_a_base_that_is_not_there_names_the_file(tmp_path: Path, base: object, said: str) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    with pytest.raises(NescioError, match=rf"adapter_config\.json: .*{said}"):
        locate(str(tmp_path))


@pytest.mark.parametrize("changes", [{"hidden_size": 64}, {"intermediate_size": 96}])
def test_an_adapter_that_does_not_fit_names_the_module(
    tiny_folder: Path, tmp_path: Path, make_model: Make, changes: dict[str, int]
) -> None:
    adapter = save_adapter(make_model("llama", **changes), tmp_path / "adapter", ["down_proj"])
    with pytest.raises(NescioError, match=r"down_proj") as caught:
        Adapters(load_model(str(tiny_folder)).model).load(adapter)
    assert "\n" not in str(caught.value)


def test_an_adapter_for_modules_the_model_lacks_names_one(tiny_folder: Path, tmp_path: Path, make_model: Make) -> None:
    adapter = save_adapter(make_model("gpt2"), tmp_path / "adapter", ["c_attn"])
    with pytest.raises(NescioError, match="c_attn"):
        Adapters(load_model(str(tiny_folder)).model).load(adapter)


def test_damaged_adapters_are_one_line(tiny_folder: Path, tmp_path: Path) -> None:
    model = load_model(str(tiny_folder)).model
    with pytest.raises(NescioError, match=r"adapter_config\.json is missing"):
        Adapters(model).load(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(NescioError, match="names no base model"):
        load_model(str(tmp_path))
    (tmp_path / "nescio.json").write_text("[")
    with pytest.raises(NescioError, match="not a JSON object"):
        read_sentences(tmp_path)


@pytest.mark.parametrize("content", ["[1]", '"x"', "null"])
def test_sentences_that_are_no_object_are_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "nescio.json").write_text(content)
    with pytest.raises(NescioError, match="not a JSON object"):
        read_sentences(tmp_path)


def test_identity_follows_content(tiny_folder: Path) -> None:
    before = identity(str(tiny_folder))
    assert identity("owner/name") == "owner/name"
    (tiny_folder / "config.json").write_text("{}")
    assert identity(str(tiny_folder)) != before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_memory_that_was_freed_is_given_back() -> None:
    def taken() -> int:
        return psutil.Process().memory_info().rss

    many = [torch.ones(12_000) for _ in range(6_000)]  # 48 kB each: too small for pages of their own
    last = many[-1]
    held = taken()
    del many
    release()
    assert held - taken() > 200 << 20 and last.sum() == 12_000
