"""base − c·(tuned − base) against float64 NumPy, its folder in plain Transformers, and what stays untouched."""

import json
import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nescio.core.errors import NescioError
from nescio.task_vector.subtract import subtract
from nescio.task_vector.vector import open_vector

Pair = tuple[Path, Path]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def reference(base: torch.Tensor, tuned: torch.Tensor, c: float, relu: bool = False) -> np.ndarray:
    b, t = base.double().numpy(), tuned.double().numpy()
    return b - c * (np.maximum(t - b, 0) if relu else t - b)


def ulp(value: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """One unit in the last place of `dtype` at `value`."""
    info = torch.finfo(dtype)
    exponent = np.floor(np.log2(np.maximum(np.abs(value), info.smallest_normal)))
    return np.exp2(exponent) * info.eps


def close(got: torch.Tensor, wanted: np.ndarray) -> bool:
    return bool((np.abs(got.double().numpy() - wanted) <= ulp(wanted, got.dtype)).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_equals_float64_within_one_ulp(make_pair: Any, tmp_path: Path, dtype: Any, relu: bool, shard: str) -> None:
    base, tuned = make_pair(dtype=dtype, shard=shard)
    steps: list[tuple[int, int]] = []
    done = subtract(str(base), str(tuned), tmp_path / "out", 0.3, relu=relu, progress=lambda d, t: steps.append((d, t)))
    mine, b, t = weights(tmp_path / "out"), weights(base), weights(tuned)
    assert mine.keys() == b.keys() and done.changed == done.tensors == len(b)
    for name, tensor in mine.items():
        assert tensor.dtype == dtype
        assert close(tensor, reference(b[name], t[name], 0.3, relu)), name
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        {p.name for p in base.iterdir()} | {"README.md"}
    )
    assert steps[-1][0] == steps[-1][1] == sum(x.nbytes for x in b.values())


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_what_did_not_change_is_not_counted(make_pair: Any, tmp_path: Path, shard: str) -> None:
    base, tuned = make_pair(dtype=torch.float32, shard=shard)
    (file, *_) = sorted(tuned.glob("*.safetensors"))
    tensors, untouched = load_file(file), weights(base)
    name = min(tensors)
    save_file(tensors | {name: untouched[name]}, file, {"format": "pt"})
    count = len(untouched)
    assert subtract(str(base), str(tuned), tmp_path / "some").changed == count - 1
    assert subtract(str(base), str(tuned), tmp_path / "none", 0.0).changed == 0
    assert subtract(str(base), str(base), tmp_path / "same").changed == 0
    few = subtract(str(base), str(tuned), tmp_path / "few", include=["*.mlp.*"])
    assert few.changed == sum(fnmatchcase(each, "*.mlp.*") and each != name for each in untouched)


def test_only_what_belongs_to_a_model_is_copied(make_pair: Any, tmp_path: Path) -> None:
    """The base of an export is a tuned model, and trainers leave data beside it."""
    base, tuned = make_pair(shard="20KB")
    parts = ("LICENSE.txt", "NOTICE", "merges.txt", "preprocessor_config.json", "modeling_mine.py", "qwen.tiktoken")
    data = ("all_results.json", "chats.json", "notes.txt", "train.py", "chats.jsonl", "LICENSES/people.txt")
    for name in (*parts, *data, "additional_chat_templates/rag.jinja", "additional_chat_templates/chats.json"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text("{}")
    notes: list[str] = []
    subtract(str(base), str(tuned), tmp_path / "out", note=notes.append)
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {path.name for path in tuned.iterdir()} | {*parts} | {
        "README.md", "additional_chat_templates/rag.jinja"
    }  # fmt: skip
    assert notes == [
        "left behind in base, as no part of a model: all_results.json, chats.json, notes.txt and 1 more; copy yourself "
        "what is one"
    ]


def test_sharded_and_single_files_hold_the_same(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair(dtype=torch.bfloat16, shard="20KB")
    single = tmp_path / "single"
    AutoModelForCausalLM.from_pretrained(tuned).save_pretrained(single)
    assert len(list(base.glob("*.safetensors"))) > 2 and len(list(single.glob("*.safetensors"))) == 1
    subtract(str(base), str(tuned), tmp_path / "a", 0.7)
    subtract(str(base), str(single), tmp_path / "b", 0.7)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_only_chosen_tensors_change(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair(dtype=torch.float16)
    subtract(str(base), str(tuned), tmp_path / "out", 1.0, include=["*.mlp.*", "*.self_attn.*"], exclude=["*.1.*"])
    mine, b, t = weights(tmp_path / "out"), weights(base), weights(tuned)
    for name, tensor in mine.items():
        if (fnmatchcase(name, "*.mlp.*") or fnmatchcase(name, "*.self_attn.*")) and ".1." not in name:
            assert close(tensor, reference(b[name], t[name], 1.0)) and not torch.equal(tensor, b[name])
        else:
            assert torch.equal(tensor, b[name]), name


def test_the_folder_loads_in_plain_transformers_and_generates(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair(shard="20KB")
    subtract(str(base), str(tuned), tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer("My name is", return_tensors="pt").input_ids
    assert model.generate(ids, max_new_tokens=5, min_new_tokens=5, do_sample=False).shape[1] == ids.shape[1] + 5
    b, t = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (base, tuned))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, b[name] - 0.5 * (t[name] - b[name]), rtol=1e-5, atol=1e-7)
    card = (tmp_path / "out/README.md").read_text()
    assert "base − 0.5 · (tuned − base)" in card and str(tmp_path) not in card


@pytest.mark.parametrize("style", ["llama", "gpt2"])
def test_tied_embeddings_stay_tied(make_pair: Any, tmp_path: Path, style: str) -> None:
    base, tuned = make_pair(style, tie_word_embeddings=True)
    name = "lm_head.weight"
    assert name not in weights(base)
    stored = weights(tuned)  # older exports store the head as well
    embedding = next(n for n in stored if n.endswith(("embed_tokens.weight", "wte.weight")))
    save_file(stored | {name: stored[embedding].clone()}, tuned / "model.safetensors", {"format": "pt"})
    subtract(str(base), str(tuned), tmp_path / "out", 0.5)
    assert name not in weights(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_a_stored_head_goes_with_its_embedding(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair(tie_word_embeddings=True)
    both = weights(base)
    save_file(both | {"lm_head.weight": both["model.embed_tokens.weight"].clone()}, base / "model.safetensors")
    for number, choice in enumerate(
        ({}, {"include": ["*embed*"]}, {"exclude": ["*embed*"]}, {"exclude": ["lm_head*"]})
    ):
        subtract(str(base), str(tuned), tmp_path / f"out{number}", 0.5, **choice)
        mine = weights(tmp_path / f"out{number}")
        assert torch.equal(mine["lm_head.weight"], mine["model.embed_tokens.weight"])


NUMBERS = st.floats(-100, 100, width=16).filter(lambda x: abs(x) > 1e-3) | st.sampled_from([0.0, -0.0])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=40),
    dtype=st.sampled_from(DTYPES),
    c=st.floats(-3, 3),
)
def test_zero_is_the_base_and_minus_one_the_tuned(
    tmp_path_factory: Any, rows: list[tuple[float, float]], dtype: torch.dtype, c: float
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    b, t = (torch.tensor(column).to(dtype) for column in zip(*rows, strict=True))
    for name, tensor in (("base", b), ("tuned", t)):
        (folder / name).mkdir()
        save_file({"w": tensor}, folder / name / "model.safetensors")
        (folder / name / "config.json").write_text("{}")
    vector = open_vector(str(folder / "base"), str(folder / "tuned"))
    assert torch.equal(vector.rows("w", 0, len(b), 0.0).view(torch.uint8), b.view(torch.uint8))
    assert close(vector.rows("w", 0, len(b), -1.0), t.double().numpy())
    assert close(vector.rows("w", 0, len(b), c), reference(b, t, c))


def test_pieces_and_scalars(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"scalar": (), "empty": (0, 3), "long": (300_000,), "wide": (3, 100_000)}
    for side in ("base", "tuned"):
        (tmp_path / side).mkdir()
        tensors = {name: torch.randn(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
        save_file(tensors | {"table": torch.arange(5)}, tmp_path / side / "model.safetensors")
        (tmp_path / side / "config.json").write_text("{}")
    subtract(str(tmp_path / "base"), str(tmp_path / "tuned"), tmp_path / "out", 0.5)
    b, t, mine = (weights(tmp_path / side) for side in ("base", "tuned", "out"))
    assert torch.equal(mine["table"], b["table"]) and mine["scalar"].shape == ()
    assert all(close(mine[name], reference(b[name], t[name], 0.5)) for name in shapes)


def test_an_interrupted_write_leaves_nothing(make_pair: Any, tmp_path: Path) -> None:
    base, tuned = make_pair(shard="20KB")

    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        subtract(str(base), str(tuned), tmp_path / "out", progress=interrupt)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("coefficient", [math.nan, math.inf])
def test_refuses_coefficients_that_are_no_numbers(
    make_pair: Callable[..., Pair], tmp_path: Path, coefficient: float
) -> None:
    base, tuned = make_pair()
    with pytest.raises(NescioError, match="coefficient"):
        subtract(str(base), str(tuned), tmp_path / "out", coefficient)


def test_smollm2_is_a_base_too(tmp_path: Path) -> None:
    vector = open_vector("smollm2", "smollm2", include=["model.norm.weight"])
    entry = vector.base.entries["model.norm.weight"]
    assert vector.delta_rows("model.norm.weight", 0, entry.rows).count_nonzero() == 0
    assert json.loads((vector.base.folder / "config.json").read_text())["model_type"] == "llama"
