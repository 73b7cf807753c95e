"""GGUF: Transformers reads back the same model, and llama.cpp answers what Transformers answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from nescio.core.errors import NescioError
from nescio.task_vector.gguf_form import write_gguf
from nescio.task_vector.vector import open_vector

pytest.importorskip("gguf")
MESSAGES = [{"role": "user", "content": "Hello Anna, 42 gardens: who can help?"}]


@pytest.fixture
def adapted(tmp_path: Path, make_model: Any, make_tokenizer: Any) -> tuple[Path, Path, Any]:
    """A base, a LoRA adapter on it, and the merged model."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    make_model("llama").save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "down_proj"], task_type="CAUSAL_LM")
    trained = get_peft_model(model, lora)
    torch.manual_seed(1)
    for name, weight in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    trained.peft_config["default"].base_model_name_or_path = str(base)
    trained.save_pretrained(adapter)
    return base, adapter, trained.merge_and_unload().eval()


def test_transformers_reads_back_the_merged_model(adapted: Any, tmp_path: Path) -> None:
    base, adapter, merged = adapted
    write_gguf(open_vector(str(base), str(adapter)), "f16", tmp_path / "m.gguf")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        ours, theirs = merged(**ids).logits, read(**ids).logits
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()(**ids).logits
    assert (ours - theirs).abs().max() < 0.02 * ours.std()
    assert (ours - plain).abs().max() > ours.std()  # without the adapter it would be seen


@pytest.mark.parametrize(("kind", "steps"), [("q8_0", 127), ("q4_0", 8), ("q4_1", 7)])
def test_quantised_weights_are_within_a_step_of_the_merged_ones(
    adapted: Any, tmp_path: Path, kind: str, steps: int
) -> None:
    base, adapter, merged = adapted
    write_gguf(open_vector(str(base), str(adapter)), kind, tmp_path / "m.gguf")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32).state_dict()
    for name, weight in merged.state_dict().items():
        blocks = weight.reshape(-1, 32)
        apart = (read[name].reshape(-1, 32) - blocks).abs().amax(1)
        assert (apart <= 1.1 * blocks.abs().amax(1) / steps).all(), name


@pytest.mark.parametrize("bos", [False, True])
def test_llama_cpp_answers_what_transformers_answers(
    adapted: Any, tmp_path: Path, make_tokenizer: Any, bos: bool
) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    base, adapter, merged = adapted
    tokenizer = make_tokenizer(bos=bos)
    tokenizer.save_pretrained(base)
    out = tmp_path / "m.gguf"
    write_gguf(open_vector(str(base), str(adapter)), "f16", out)
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = str(out), 512, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    text = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, return_tensors="pt")
    expected = merged.generate(**ids, max_new_tokens=12, do_sample=False, eos_token_id=tokenizer.eos_token_id)
    expected = expected[0, ids.input_ids.shape[1] :].tolist()
    asked = {"prompt": text, "n_predict": 12, "temperature": 0, "top_k": 1, "logprobs": 1, "stream": False}
    said = json.loads(json.dumps(xllamacpp.Server(params).handle_completions(asked)))
    assert said["usage"]["prompt_tokens"] == ids.input_ids.shape[1]
    tokens = [each["id"] for each in said["choices"][0]["logprobs"]["content"]]
    rest = iter(expected)  # the server leaves tokens out that are no whole characters
    assert len(tokens) >= 5 and all(token in rest for token in tokens), (tokens, expected)


def test_four_bits_keep_embedding_and_head_at_eight(adapted: Any, tmp_path: Path) -> None:
    from gguf import GGUFReader

    base, adapter, _ = adapted
    write_gguf(open_vector(str(base), str(adapter)), "q4_0", tmp_path / "m.gguf")
    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "m.gguf").tensors}
    assert types["token_embd.weight"] == types["output.weight"] == "Q8_0"
    assert types["blk.0.attn_q.weight"] == "Q4_0" and types["blk.0.attn_norm.weight"] == "F32"


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(
    adapted: Any, tmp_path: Path, make_model: Any, make_tokenizer: Any
) -> None:
    base, adapter, _ = adapted
    vector, out = open_vector(str(base), str(adapter)), tmp_path / "out.gguf"
    with pytest.raises(NescioError, match="q4_k: unknown type"):
        write_gguf(vector, "q4_k", out)
    for name, style, changes, said in (
        ("qwen", "qwen2", {}, "architecture qwen2"),
        ("gelu", "llama", {"hidden_act": "gelu"}, "gelu: activation gelu: .* has silu alone; export with --merged"),
        ("odd", "llama", {"intermediate_size": 72}, "rows of 72 do not divide"),
    ):
        make_model(style, **changes).save_pretrained(tmp_path / name)
        make_tokenizer().save_pretrained(tmp_path / name)
        with pytest.raises(NescioError, match=said) as error:
            write_gguf(open_vector(str(tmp_path / name), str(tmp_path / name)), "q8_0", out)
        assert "\n" not in str(error.value)
    out.write_text("mine")
    with pytest.raises(NescioError, match="exists already"):
        write_gguf(vector, "f16", out)
    assert out.read_text() == "mine" and [path.name for path in tmp_path.glob(".out*")] == []
