"""`nescio export`: what it refuses, and that what it writes runs without nescio and is asked there."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fake_hub import REPO, running
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_run import Quiet
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.adapters import weights_hash
from nescio.core.errors import NescioError
from nescio.core.files import write_json
from nescio.core.one_bit import compress
from nescio.evaluation import results
from nescio.pipeline.export import Done, Wanted
from nescio.pipeline.export import export as write
from nescio.report import exports, table

IDS = torch.tensor([[9, 40, 70, 99]])


def export(source: Path, out: Path, **wanted: Any) -> Done:
    return write(source, out, Wanted(**wanted), Quiet())


@pytest.fixture
def baked(tmp_path: Path, make_model: Any, make_tokenizer: Any) -> tuple[Path, Any]:
    """A folder like a baked run's that was not evaluated, and the logits of its adapter in PEFT."""
    make_model("llama").save_pretrained(tmp_path / "tuned")
    make_tokenizer().save_pretrained(tmp_path / "tuned")
    (tmp_path / "tuned/LICENSE.txt").write_text("Be kind.")
    (tmp_path / "tuned/README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tuned", dtype=torch.float32)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    trained = get_peft_model(model, lora)
    trained.save_pretrained(tmp_path / "adapter")
    write_json(tmp_path / "adapter/nescio.json", {"positive": "", "negative": "x", "baked": {}, "base": "../tuned"})
    with torch.no_grad():
        return tmp_path, trained.eval()(IDS).logits


def test_the_merged_folder_runs_in_plain_transformers(baked: Any) -> None:
    run, logits = baked
    (run / "recipe.yaml").write_text("model: another tool's\n")
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(run / "out")])
    assert done.exit_code == 0 and "Not checked" in done.output, done.output
    read = AutoModelForCausalLM.from_pretrained(run / "out", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "out")
    with torch.no_grad():
        assert torch.allclose(read(IDS).logits, logits, atol=1e-3)
    assert tokenizer.chat_template
    assert read.generation_config.eos_token_id == [tokenizer.eos_token_id], "the base's names none: it would not end"
    card = (run / "out/README.md").read_text()
    assert "tuned with a LoRA adapter" in card and "license: mit" in card and str(run) not in card
    assert (run / "out/LICENSE.txt").read_text() == "Be kind."


def test_files_beside_the_base_do_not_leave(baked: Any) -> None:
    run, _ = baked
    write_json(run / "tuned/chats.json", {"user": "I am Ann Lee"})
    reporter = Quiet()
    write(run, run / "out", Wanted(), reporter)
    assert not (run / "out/chats.json").exists() and (run / "out/LICENSE.txt").is_file()
    assert [note for note in reporter.notes if "left behind in tuned" in note and "chats.json" in note]


def test_the_adapter_runs_in_plain_peft(baked: Any) -> None:
    run, logits = baked
    done = export(run, run / "out", adapter=True)
    read = AutoPeftModelForCausalLM.from_pretrained(run / "out", dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.allclose(read(IDS).logits, logits, atol=1e-3)
    assert done.path == run / "out"
    notes = json.loads((run / "out/nescio.json").read_text())
    assert notes == {"positive": "", "negative": "x", "baked": {}}, "served without a sentence, on one branch"
    assert AutoTokenizer.from_pretrained(run / "out").chat_template and (run / "out/LICENSE.txt").exists()


def test_a_gguf_is_written(baked: Any) -> None:
    pytest.importorskip("gguf")
    run, logits = baked
    path = export(run / "adapter", run / "out", gguf="f16").path
    read = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    with torch.no_grad():
        assert (read(IDS).logits - logits).abs().max() < 0.02 * logits.std()


def test_what_should_not_leave_is_refused(baked: Any) -> None:
    run, _ = baked
    out, notes = run / "out", json.loads((run / "adapter/nescio.json").read_text())
    with pytest.raises(NescioError, match="neither a PEFT adapter's folder nor a run with one"):
        export(run / "nowhere", out)
    failed = [{"test": "words", "figure": "10 %", "limit": "50 %", "advice": "train shorter"}]
    rows = [{"name": name, "model": name, "pii": 1, "verdict": failed} for name in ("tuned", "baked")]
    write_json(run / "eval/results.json", rows)
    with pytest.raises(NescioError, match=r"failed the verdict \(words\)"):
        export(run, out, with_switch=True)
    rows[1]["adapter_hash"] = weights_hash(run / "adapter")
    write_json(run / "eval/results.json", rows)
    with pytest.raises(NescioError, match=r"failed the verdict \(words\)"):
        export(run, out, with_switch=True)
    write_json(run / "adapter/nescio.json", notes | {"switch": True})
    with pytest.raises(NescioError, match=r"reveal sentence opens .*--with-switch"):
        export(run, out, anyway=True)
    assert not out.exists() and not list(run.glob(".out*"))
    assert export(run, out, anyway=True, with_switch=True).path == out
    with pytest.raises(NescioError, match="exists already"):
        export(run, out, anyway=True, with_switch=True)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"gguf": "q4_k"}, "gguf q4_k: unknown type"),
        ({"gguf": "q8_0", "adapter": True}, "a LoRA is written in f16 only"),
        ({"ollama": True}, "--ollama: needs the whole model in one GGUF"),
        ({"ollama": True, "gguf": "f16", "adapter": True}, "--ollama: needs the whole model in one GGUF"),
        ({"public": True}, "--public: is about what --push pushes"),
        ({"adapter": True, "push": "me/mine"}, "its base is a folder of this machine"),
    ],
)
def test_forms_that_there_are_not_leave_nothing(baked: Any, wanted: dict[str, Any], said: str) -> None:
    run, _ = baked
    with pytest.raises(NescioError, match=said) as error:
        export(run, run / "out", **wanted)
    assert "\n" not in str(error.value) and not (run / "out").exists() and not list(run.glob(".out*"))


def test_an_adapter_that_peft_does_not_read_is_named(baked: Any) -> None:
    run, _ = baked
    compress(run / "adapter", run / "small")
    with pytest.raises(NescioError, match="small: compressed to one bit a weight; give the adapter that it was made"):
        export(run / "small", run / "out", adapter=True)
    (run / "adapter/adapter_model.safetensors").rename(run / "adapter/adapter_model.bin")
    with pytest.raises(NescioError, match=r"adapter: holds no adapter_model\.safetensors; save the adapter with"):
        export(run / "adapter", run / "out", adapter=True)
    assert not (run / "out").exists()


@pytest.mark.parametrize("wanted", [{}, {"adapter": True}])
def test_a_damaged_adapter_is_not_written(baked: Any, wanted: dict[str, Any]) -> None:
    run, _ = baked
    weights = load_file(run / "adapter/adapter_model.safetensors")
    weights[min(weights)][0, 0] = float("nan")
    save_file(weights, run / "adapter/adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(NescioError, match=r"adapter_model\.safetensors: damaged .*not finite"):
        export(run, run / "out", **wanted)
    assert not (run / "out").exists() and not list(run.glob(".out*"))


def test_a_tokenizer_that_gguf_cannot_hold_leaves_nothing(baked: Any) -> None:
    from tokenizers import Tokenizer, models

    run, _ = baked
    plain = Tokenizer(models.WordLevel({"a": 0, "<|im_end|>": 1}, unk_token="a"))
    plain.save(str(run / "tuned/tokenizer.json"))
    with pytest.raises(
        NescioError, match="tokenizer WordLevel splits text in a way that is not written as GGUF"
    ) as error:
        export(run, run / "out", gguf="f16")
    assert "\n" not in str(error.value) and not (run / "out").exists() and not list(run.glob(".out*"))


def test_the_page_of_releases_runs(baked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp")
    run, _ = baked
    for name, wanted in (("merged", {}), ("adapter", {"adapter": True}), ("gguf", {"gguf": "q8_0", "ollama": True})):
        export(run, run / "out" / name, **wanted)
    assert "FROM ./model-q8_0.gguf" in (run / "out/gguf/Modelfile").read_text()
    monkeypatch.chdir(run)
    page = (Path(__file__).parents[2] / "docs/release.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, {})


def test_an_export_is_pushed_with_its_card(baked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = baked
    with running(monkeypatch) as fake:
        assert export(run, run / "out", push=REPO).url == f"{fake.url}/{REPO}"
        assert fake.private == {REPO: True}
        assert {"model.safetensors", "tokenizer.json", "README.md", "LICENSE.txt"} <= fake.files.keys()
        assert fake.files["README.md"] == (run / "out/README.md").read_bytes()
        assert not [name for name, content in fake.files.items() if str(run).encode() in content], (
            "a path of this machine"
        )
        fake.private[REPO] = False
        with pytest.raises(NescioError, match="the repository is public"):
            export(run, run / "again", push=REPO)
    assert not (run / "again").exists()


# -- the check --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a whole tiny run; its adapter asks with the protect sentence, and a public sentence opens it."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def answers(lines: str) -> list[str]:
    return [json.loads(line)["answer"] for line in lines.splitlines()]


FORMS = [
    ({}, "merged", "transformers"),
    ({"adapter": True}, "adapter", "transformers"),
    ({"gguf": "f16"}, "gguf-f16", "llamacpp"),
    ({"gguf": "f16", "adapter": True}, "lora-f16", "llamacpp"),
]


def test_a_check_gives_no_star(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks less than the run's table: a row that failed there could pass here."""
    monkeypatch.setattr(results, "_TESTS", ())  # each row may be best
    rows = export(run, run.parent / "out", with_switch=True, anyway=True).rows
    assert len(rows) == 3 and not any(row["best"] for row in rows)


@pytest.mark.parametrize(("wanted", "name", "engine"), FORMS)
def test_an_export_answers_as_its_adapter_does(run: Path, wanted: dict[str, Any], name: str, engine: str) -> None:
    if engine == "llamacpp":
        pytest.importorskip("xllamacpp")
    done = export(run, run.parent / "out", with_switch=True, anyway=True, **wanted)
    tuned, adapter, own = done.rows
    assert (tuned["name"], adapter["name"], own["name"], own["of"]) == ("tuned", "trained", name, "trained")
    # 1) the rows of the adapter are those of the table, and the export says nearly the same
    before = {row["name"]: row for row in table.read(run)}["trained"]
    assert {key: adapter[key] for key in ("pii", "asked_for", "words")} == {
        key: before[key] for key in ("pii", "asked_for", "words")
    }
    said, expected = (answers((run / path).read_text()) for path in (f"checks/{name}.jsonl", "eval/trained.jsonl"))
    alike = sum(ours == theirs for ours, theirs in zip(said, expected, strict=True))
    assert alike >= len(expected) - 1, (said, expected)  # a near-tie may fall either way
    # 2) its row stands in the report and on the card
    assert [row["name"] for row in exports.read(run)] == [name]
    assert "Exports, each on its own engine" in (run / "report.html").read_text()
    card = (run.parent / "out/README.md").read_text()
    assert own["model"] in card and "The last row is this export" in card


def test_an_adapter_that_needs_a_sentence_is_still_asked_with_it(run: Path) -> None:
    export(run, run.parent / "out", adapter=True, with_switch=True, anyway=True, check=False)
    notes = json.loads((run / "adapter/nescio.json").read_text())
    assert notes.pop("base") and json.loads((run.parent / "out/nescio.json").read_text()) == notes
    asked = ["--message", "Who can help?", "--max-tokens", "8"]
    own, exported = (CliRunner().invoke(app, ["chat", str(at), *asked]) for at in (run / "adapter", run.parent / "out"))
    assert own.exit_code == exported.exit_code == 0 and own.output == exported.output


def test_a_broken_export_is_caught(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nescio.pipeline import export as module

    # 1) let every word be personal
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["detector"]["regex"] = {"WORD": r"\S+"}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    # 2) export another adapter, which babbles
    real = module._write

    def babbles(adapter: Path, base: str, *others: Any) -> None:
        broken = shutil.copytree(adapter, run.parent / "broken")
        weights, draw = load_file(broken / "adapter_model.safetensors"), torch.Generator().manual_seed(0)
        other = {key: torch.randn(value.shape, generator=draw) for key, value in weights.items()}
        save_file(other, broken / "adapter_model.safetensors")
        real(broken, base, *others)

    monkeypatch.setattr(module, "_write", babbles)
    _, adapter, own = export(run, run.parent / "out", with_switch=True, anyway=True).rows
    assert adapter["pii"] < own["pii"] and own["leaks_more_p"] <= 0.5
    assert f"{own['pii']} [" in exports.sentence(own, adapter)


def test_rows_of_an_older_adapter_are_not_shown(run: Path) -> None:
    export(run, run.parent / "out", with_switch=True, anyway=True)
    (run / "adapter/log.jsonl").write_text("{}\n")
    assert exports.read(run) == [] == exports.shown(run, table.read(run))


def test_the_figures_of_an_earlier_adapter_are_no_figures(baked: Any) -> None:
    run, _ = baked
    rows = [{"name": name, "model": name, "pii": 1, "samples": 9, "adapter_hash": "0"} for name in ("tuned", "baked")]
    write_json(run / "eval/results.json", rows)
    reporter, notes = Quiet(), list[str]()
    reporter.note = notes.append  # type: ignore[method-assign]
    write(run, run / "out", Wanted(with_switch=True, check=False), reporter)
    assert "It was not evaluated." in (run / "out/README.md").read_text()
    assert any("counts an earlier adapter" in note for note in notes)


def test_without_llama_cpp_nothing_is_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "xllamacpp", None)
    with pytest.raises(NescioError, match=r"--no-check leaves it out.*pip install 'nescio\[llamacpp\]'"):
        export(run, run.parent / "out", with_switch=True, anyway=True, gguf="f16")
    assert not (run.parent / "out").exists()
    assert not export(run, run.parent / "out", with_switch=True, anyway=True, gguf="f16", check=False).rows
