"""A LoRA adapter as the tuned side, −c·delta as an adapter, and adapters fitted to a full delta, against plain PEFT."""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nescio.core.errors import NescioError
from nescio.core.one_bit import compress
from nescio.task_vector.adapter_form import truncated_svd
from nescio.task_vector.subtract import subtract

IDS = torch.arange(3, 23)[None]
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def write_adapter(base: Path, folder: Path, **changes: Any) -> Path:
    """A PEFT adapter whose B is not zero."""
    torch.manual_seed(5)
    model = get_peft_model(load(base), LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": LINEARS} | changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


PLAIN: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"use_rslora": True}),
    ("llama", {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 7}, "alpha_pattern": {"v_proj": 11}}),
    ("llama", {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
    ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("style", "changes"), PLAIN)
def test_an_adapter_is_subtracted_without_merging(make_pair: Any, tmp_path: Path, style: str, changes: Any) -> None:
    base, _ = make_pair(style)
    adapter = write_adapter(base, tmp_path / "adapter", **changes)
    subtract(str(base), str(adapter), tmp_path / "merged", 0.5)
    subtract(str(base), str(adapter), tmp_path / "attached", 0.5, as_adapter=True)
    b, t = load(base).state_dict(), PeftModel.from_pretrained(load(base), adapter).merge_and_unload().state_dict()
    merged = load(tmp_path / "merged")
    for name, tensor in merged.state_dict().items():
        torch.testing.assert_close(tensor, b[name] - 0.5 * (t[name] - b[name]), rtol=0, atol=1e-6)
    attached = PeftModel.from_pretrained(load(base), tmp_path / "attached").eval()
    assert (logits(attached) - logits(merged)).abs().max() < 1e-4
    assert (logits(merged) - logits(load(base))).abs().max() > 1e-2
    with attached.disable_adapter():
        assert torch.equal(logits(attached), logits(load(base)))


@pytest.mark.filterwarnings("ignore")
def test_only_chosen_modules_are_in_the_adapter(make_pair: Any, tmp_path: Path) -> None:
    base, _ = make_pair()
    adapter = write_adapter(base, tmp_path / "adapter")
    options: dict[str, Any] = {"coefficient": 1.5, "include": ["*.mlp.*"], "exclude": ["*.0.*"]}
    subtract(str(base), str(adapter), tmp_path / "merged", **options)
    done = subtract(str(base), str(adapter), tmp_path / "attached", as_adapter=True, **options)
    assert done.changed == 3
    assert len(load_file(tmp_path / "attached/adapter_model.safetensors")) == 6
    attached = PeftModel.from_pretrained(load(base), tmp_path / "attached").eval()
    assert (logits(attached) - logits(load(tmp_path / "merged"))).abs().max() < 1e-4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("style", "tied"), [("llama", False), ("llama", True), ("gpt2", True), ("qwen2", False)])
def test_full_rank_fit_is_the_merged_form(make_pair: Any, tmp_path: Path, style: str, tied: bool) -> None:
    base, tuned = make_pair(style, tie_word_embeddings=tied)
    vectors = ["*norm*", "*ln_*", "*bias"]  # what no LoRA can carry
    stored = load_file(base / "model.safetensors")
    only_matrices: dict[str, Any] = {"exclude": [p for p in vectors if any(fnmatchcase(name, p) for name in stored)]}
    subtract(str(base), str(tuned), tmp_path / "merged", 0.5, **only_matrices)
    fit = subtract(str(base), str(tuned), tmp_path / "fitted", 0.5, rank=200, **only_matrices)
    assert fit.kept_overall == pytest.approx(1) and not fit.left_out
    attached = PeftModel.from_pretrained(load(base), tmp_path / "fitted").eval()
    assert (logits(attached) - logits(load(tmp_path / "merged"))).abs().max() < 1e-4


@pytest.mark.filterwarnings("ignore")
def test_the_share_of_energy_is_that_of_the_svd(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair()
    fit = subtract(str(base), str(tuned), tmp_path / "fitted", rank=3)
    b, t = load(base).state_dict(), load(tuned).state_dict()
    squares = {name: torch.linalg.svdvals((t[name] - b[name]).double()).square() for name in fit.kept}
    for name, values in squares.items():
        assert fit.kept[name] == pytest.approx(float(values[:3].sum() / values.sum()), rel=1e-4)
    everything = sum(float((t[name] - b[name]).double().square().sum()) for name in b)
    assert fit.kept_overall == pytest.approx(float(sum(v[:3].sum() for v in squares.values())) / everything, rel=1e-4)
    assert set(fit.left_out) == {name for name in b if name.endswith("norm.weight")}
    assert fit.kept.keys() | set(fit.left_out) == b.keys()
    assert fit.changed == len(fit.kept) < fit.tensors


@pytest.mark.filterwarnings("ignore")
def test_relu_of_an_adapter_can_be_fitted(make_pair: Any, tmp_path: Path) -> None:
    base, _ = make_pair()
    adapter = write_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    with pytest.raises(NescioError, match="--rank"):
        subtract(str(base), str(adapter), tmp_path / "x", relu=True, as_adapter=True)
    subtract(str(base), str(adapter), tmp_path / "merged", relu=True)
    subtract(str(base), str(adapter), tmp_path / "fitted", relu=True, rank=32)
    attached = PeftModel.from_pretrained(load(base), tmp_path / "fitted").eval()
    assert (logits(attached) - logits(load(tmp_path / "merged"))).abs().max() < 1e-4


def test_a_large_matrix_is_projected_and_seeded() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(400, 6) @ torch.randn(6, 500) + 0.01 * torch.randn(400, 500)
    left, right, energy = truncated_svd(matrix, 6)
    values = torch.linalg.svdvals(matrix.double())
    assert energy == pytest.approx(float(values[:6].square().sum()), rel=1e-5)
    best = float(values[6:].square().sum())
    assert float((matrix - left @ right).double().square().sum()) == pytest.approx(best, rel=1e-2)
    torch.manual_seed(77)
    assert torch.equal(truncated_svd(matrix, 6)[0], left)


def test_a_full_fine_tune_is_no_adapter(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair()
    with pytest.raises(NescioError, match="--rank"):
        subtract(str(base), str(tuned), tmp_path / "out", as_adapter=True)
    with pytest.raises(NescioError, match="rank 0"):
        subtract(str(base), str(tuned), tmp_path / "out", rank=0)
    with pytest.raises(NescioError, match="nothing to fit"):
        subtract(str(base), str(base), tmp_path / "out", rank=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save.*merge"),
        ({"use_dora": True}, "use_dora.*merge"),
        ({"bias": "all"}, "bias 'all'.*merge"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'.*merge"),
    ],
)
def test_more_than_a_plain_lora_is_refused(make_pair: Any, tmp_path: Path, changes: Any, said: str) -> None:
    base, _ = make_pair()
    adapter = write_adapter(base, tmp_path / "adapter", **changes)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | changes))
    with pytest.raises(NescioError, match=said):
        subtract(str(base), str(adapter), tmp_path / "out")


@pytest.mark.filterwarnings("ignore")
def test_adapters_that_do_not_fit(make_pair: Any, tmp_path: Path) -> None:
    base, _ = make_pair(tie_word_embeddings=True)
    tied = write_adapter(base, tmp_path / "tied", target_modules=["embed_tokens"])
    head = write_adapter(base, tmp_path / "head", target_modules=["lm_head"])
    for folder, module in ((tied, "model.embed_tokens"), (head, "lm_head")):
        with pytest.raises(NescioError, match=f"adapts {module}, tied in the base; untie them and merge it"):
            subtract(str(base), str(folder), tmp_path / "out")
    adapter = write_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    weights = load_file(adapter / "adapter_model.safetensors")
    cases = {
        "shapes that differ": {n: torch.zeros(4, 33) if "lora_A" in n else t for n, t in weights.items()},
        "which the base lacks": {n.replace("layers.1", "layers.7"): t for n, t in weights.items()},
        r"more than a plain LoRA; merge it \(PEFT's .*\) and use the merged model$": weights
        | {"base_model.model.model.norm.weight": torch.zeros(32)},
    }
    for said, tensors in cases.items():
        save_file(tensors, adapter / "adapter_model.safetensors")
        with pytest.raises(NescioError, match=said):
            subtract(str(base), str(adapter), tmp_path / "out")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(NescioError, match=r"holds no adapter_model\.safetensors"):
        subtract(str(base), str(adapter), tmp_path / "out")


@pytest.mark.filterwarnings("ignore")
def test_numbers_that_are_not_finite_are_refused_in_each_form(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair()
    adapter = write_adapter(base, tmp_path / "adapter")
    out, said = tmp_path / "out", r"coefficient \* delta is not finite in torch\.float32"
    with pytest.raises(NescioError, match=said):
        subtract(str(base), str(adapter), out, 1e300, as_adapter=True)
    with pytest.raises(NescioError, match=said):
        subtract(str(base), str(tuned), out, 1e300, rank=2)
    name, stored = "model.layers.0.mlp.up_proj.weight", load_file(tuned / "model.safetensors")
    stored[name][0, 0] = float("nan")
    save_file(stored, tuned / "model.safetensors", {"format": "pt"})
    with pytest.raises(NescioError, match=f"{name}: the delta is not finite; is the fine-tune damaged"):
        subtract(str(base), str(tuned), out, rank=2)
    weights = load_file(adapter / "adapter_model.safetensors")
    weights[min(weights)][0, 0] = float("inf")
    save_file(weights, adapter / "adapter_model.safetensors", {"format": "pt"})
    for work in (lambda: subtract(str(base), str(adapter), out, as_adapter=True), lambda: compress(adapter, out)):
        with pytest.raises(
            NescioError, match=r"adapter_model\.safetensors: damaged .*not finite.*write the adapter again"
        ):
            work()
    assert not out.exists()


def test_an_adapter_with_the_bases_configuration_beside_it(make_pair: Any, tmp_path: Path) -> None:
    base, _ = make_pair()
    adapter = write_adapter(base, tmp_path / "adapter")
    subtract(str(base), str(adapter), tmp_path / "one")
    (adapter / "config.json").write_bytes((base / "config.json").read_bytes())  # as some trainers write
    subtract(str(base), str(adapter), tmp_path / "other")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_compressed_adapter_is_named_as_one(make_pair: Any, tmp_path: Path) -> None:
    base, _ = make_pair()
    compress(write_adapter(base, tmp_path / "adapter"), tmp_path / "bits")
    with pytest.raises(NescioError, match="compressed to one bit a weight"):
        subtract(str(base), str(tmp_path / "bits"), tmp_path / "out")
