"""What does not fit is refused in one line that names it, before anything is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nescio.core.errors import NescioError
from nescio.task_vector.subtract import subtract

Change = Callable[[Path, Path], None]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def save(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def drop(base: Path, tuned: Path) -> None:
    save(tuned, {name: tensor for name, tensor in weights_of(tuned).items() if "layers.1" not in name})


def add(base: Path, tuned: Path) -> None:
    save(tuned, weights_of(tuned) | {"model.extra.weight": torch.zeros(2)})


def widen(base: Path, tuned: Path) -> None:
    save(tuned, weights_of(tuned) | {"model.layers.0.mlp.up_proj.weight": torch.zeros(65, 32)})


def grow_vocabulary(base: Path, tuned: Path) -> None:
    grown = {name: torch.zeros(322, 32) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    save(tuned, weights_of(tuned) | grown)


def halve(base: Path, tuned: Path) -> None:
    save(tuned, {name: tensor.half() for name, tensor in weights_of(tuned).items()})


def swap_tokens(base: Path, tuned: Path) -> None:
    path = tuned / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(tokenizer))


def truncate(base: Path, tuned: Path) -> None:
    data = (tuned / "model.safetensors").read_bytes()
    (tuned / "model.safetensors").write_bytes(data[:-100])


def only_a_few_bytes(base: Path, tuned: Path) -> None:
    (tuned / "model.safetensors").write_bytes(b"\x08")


def scramble(base: Path, tuned: Path) -> None:
    data = bytearray((tuned / "model.safetensors").read_bytes())
    data[8:12] = b"oops"
    (tuned / "model.safetensors").write_bytes(data)


def pickle_only(base: Path, tuned: Path) -> None:
    (tuned / "model.safetensors").unlink()
    (tuned / "pytorch_model.bin").write_bytes(b"not to be opened")


def gguf_only(base: Path, tuned: Path) -> None:
    (tuned / "model.safetensors").unlink()
    (tuned / "model.Q4_1.gguf").write_bytes(b"GGUF")


def nothing(base: Path, tuned: Path) -> None:
    (tuned / "model.safetensors").unlink()


def quantised(base: Path, tuned: Path) -> None:
    save(base, {n: (t * 127).to(torch.int8) if "mlp" in n else t for n, t in weights_of(base).items()})


def no_config(base: Path, tuned: Path) -> None:
    (base / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop, "tensors missing: model.layers.1.*, .*, .* and 6 more; "),
        (add, "tensors too many: model.extra.weight; "),
        (widen, r"shapes that differ: model.layers.0.mlp.up_proj.weight 65×32 \(base 64×32\); "),
        (grow_vocabulary, r"322×32 \(base 320×32\).*the vocabularies differ"),
        (halve, r"types that differ: .* F16 \(base F32\), .* and 18 more; "),
        (swap_tokens, r"vocabulary entries that differ: id \d+ '[ab]' \(base '[ab]'\)"),
        (truncate, "truncated or damaged"),
        (only_a_few_bytes, "truncated or no safetensors file"),
        (scramble, "header is damaged"),
        (pickle_only, "pytorch_model.bin: a pickle can run code .* convert"),
        (gguf_only, "gguf: GGUF is not subtracted from; convert"),
        (nothing, "holds no model.safetensors"),
        (quantised, "quantised: .*mlp.* and 3 more; "),
        (no_config, "config.json: not a JSON object"),
    ],
)
def test_refused(make_pair: Any, tmp_path: Path, change: Change, said: str) -> None:
    base, tuned = make_pair()
    change(base, tuned)
    before = set(tmp_path.iterdir())
    with pytest.raises(NescioError, match=said) as caught:
        subtract(str(base), str(tuned), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert set(tmp_path.iterdir()) == before


def test_a_missing_shard_and_a_wrong_index(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair(shard="20KB")
    index = tuned / "model.safetensors.index.json"
    plan = json.loads(index.read_text())
    whole = index.read_text()
    plan["weight_map"]["model.ghost.weight"] = next(iter(plan["weight_map"].values()))
    index.write_text(json.dumps(plan))
    with pytest.raises(NescioError, match=r"lists model\.ghost\.weight, which no shard holds"):
        subtract(str(base), str(tuned), tmp_path / "out")
    index.write_text(whole)
    shard = sorted(tuned.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(NescioError, match=f"{shard.name}: this shard is missing"):
        subtract(str(base), str(tuned), tmp_path / "out")


@pytest.mark.parametrize(("file", "said"), [("x.gguf", "GGUF"), ("x.bin", "pickle"), ("x.pt", "pickle")])
def test_files_of_other_formats(make_pair: Any, tmp_path: Path, file: str, said: str) -> None:
    base, _ = make_pair()
    (tmp_path / file).write_bytes(b"GGUF")
    with pytest.raises(NescioError, match=f"{said}.*save_pretrained"):
        subtract(str(base), str(tmp_path / file), tmp_path / "out")


def test_names_that_are_no_model(make_pair: Any, tmp_path: Path) -> None:
    base, _ = make_pair()
    with pytest.raises(NescioError, match="no such model"):
        subtract(str(base), str(tmp_path / "nowhere"), tmp_path / "out")


def test_out_exists(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair()
    (tmp_path / "out").mkdir()
    with pytest.raises(NescioError, match="exists already"):
        subtract(str(base), str(tuned), tmp_path / "out")


def test_too_little_disk_is_found_before(make_pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, tuned = make_pair()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    before = set(tmp_path.iterdir())
    with pytest.raises(NescioError, match="GB of disk"):
        subtract(str(base), str(tuned), tmp_path / "deep/out")
    assert set(tmp_path.iterdir()) == before


def test_patterns_that_fit_nothing(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair()
    with pytest.raises(NescioError, match=r"pattern '\*mpl\*' fits none"):
        subtract(str(base), str(tuned), tmp_path / "out", include=["*mpl*"])
    with pytest.raises(NescioError, match="leave no tensor"):
        subtract(str(base), str(tuned), tmp_path / "out", exclude=["*"])


def test_a_tuned_model_that_untied_its_head(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair(tie_word_embeddings=True)
    config = json.loads((tuned / "config.json").read_text())
    (tuned / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    stored = weights_of(tuned)
    save(tuned, stored | {"lm_head.weight": stored["model.embed_tokens.weight"] + 1})
    with pytest.raises(NescioError, match=r"a head of its own: lm_head\.weight; the base"):
        subtract(str(base), str(tuned), tmp_path / "out")


def test_a_tied_flag_with_a_head_of_its_own(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair(tie_word_embeddings=True)
    stored = weights_of(tuned)
    save(tuned, stored | {"lm_head.weight": stored["model.embed_tokens.weight"] + 1})
    with pytest.raises(NescioError, match=r"a head of its own: lm_head\.weight; the base's head is its embedding"):
        subtract(str(base), str(tuned), tmp_path / "out")
    own = weights_of(base)
    save(base, own | {"lm_head.weight": own["model.embed_tokens.weight"] - 1})
    subtract(str(base), str(tuned), tmp_path / "out", -1)
    written, wanted = weights_of(tmp_path / "out"), weights_of(tuned)
    assert all(torch.equal(written[name], wanted[name]) for name in wanted), "-1 gives the tuned model"


def test_an_old_index_beside_a_newer_single_file(make_pair: Any, tmp_path: Path) -> None:
    newer = weights_of(make_pair()[0])
    base, tuned = make_pair(shard="20KB")
    assert (base / "model.safetensors.index.json").is_file()
    save(base, newer)
    with pytest.raises(NescioError, match=r"model\.safetensors and model\.safetensors\.index\.json .*delete the older"):
        subtract(str(base), str(tuned), tmp_path / "out")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 6e4])
def test_a_result_that_is_not_finite_is_refused(make_pair: Any, tmp_path: Path, value: float) -> None:
    base, tuned = make_pair(dtype=torch.float16)
    name = "model.layers.1.mlp.up_proj.weight"
    spoilt = weights_of(tuned)
    spoilt[name][3, 2] = value  # 6e4 fits fp16, base - 2 * 6e4 does not
    save(tuned, spoilt)
    with pytest.raises(NescioError, match=rf"{name}: base - 2 \* delta is not finite in torch\.float16"):
        subtract(str(base), str(tuned), tmp_path / "out", 2.0)
    with pytest.raises(NescioError, match=rf"{name}: base \+ 2 \* delta is not finite in torch\.float16"):
        subtract(str(base), str(tuned), tmp_path / "out", -2.0)
    assert not (tmp_path / "out").exists()


def test_a_stale_adapter_configuration_is_not_copied(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair()
    (base / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (base / "pytorch_model.bin.index.json").write_text("{}")
    subtract(str(base), str(tuned), tmp_path / "out")
    assert not list((tmp_path / "out").glob("adapter*")) and not list((tmp_path / "out").glob("*.bin.index.json"))
