"""`nescio export`: what it refuses, and that what it writes runs without nescio."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.errors import NescioError
from nescio.core.files import write_json
from nescio.pipeline.export import export

IDS = torch.tensor([[9, 40, 70, 99]])


@pytest.fixture
def baked(tmp_path: Path, make_model: Any, make_tokenizer: Any) -> tuple[Path, Any]:
    """A folder like a baked run's, and the logits of its adapter in PEFT."""
    make_model("llama").save_pretrained(tmp_path / "tuned")
    make_tokenizer().save_pretrained(tmp_path / "tuned")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tuned", dtype=torch.float32)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    trained = get_peft_model(model, lora)
    trained.save_pretrained(tmp_path / "adapter")
    write_json(tmp_path / "adapter/nescio.json", {"positive": "", "negative": "x", "baked": {}, "base": "tuned"})
    with torch.no_grad():
        return tmp_path, trained.eval()(IDS).logits


def test_the_merged_folder_runs_in_plain_transformers(baked: Any) -> None:
    run, logits = baked
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(run / "out")])
    assert done.exit_code == 0 and "not checked" in done.output, done.output
    read = AutoModelForCausalLM.from_pretrained(run / "out", dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.allclose(read(IDS).logits, logits, atol=1e-3)
    assert AutoTokenizer.from_pretrained(run / "out").chat_template
    card = (run / "out/README.md").read_text()
    assert "tuned with a LoRA adapter" in card and str(run) not in card


def test_a_gguf_is_written(baked: Any) -> None:
    pytest.importorskip("gguf")
    run, logits = baked
    path = export(run / "adapter", run / "out", "f16")
    read = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    with torch.no_grad():
        assert (read(IDS).logits - logits).abs().max() < 0.02 * logits.std()


def test_what_should_not_leave_is_refused(baked: Any) -> None:
    run, _ = baked
    out, notes = run / "out", json.loads((run / "adapter/nescio.json").read_text())
    with pytest.raises(NescioError, match="not a PEFT adapter"):
        export(run / "nowhere", out)
    with pytest.raises(NescioError, match="unknown type"):
        export(run, out, "q4_k")
    failed = [{"test": "words", "figure": "10 %", "limit": "50 %", "advice": "train shorter"}]
    rows = [{"name": name, "model": name, "pii": 1, "verdict": failed} for name in ("tuned", "baked")]
    write_json(run / "eval/results.json", rows)
    with pytest.raises(NescioError, match=r"failed the verdict \(words\)"):
        export(run, out)
    write_json(run / "adapter/nescio.json", notes | {"switch": True})
    with pytest.raises(NescioError, match="reveal sentence opens"):
        export(run, out)
    assert not out.exists() and not list(run.glob(".out*"))
    assert export(run, out, anyway=True) == out
    with pytest.raises(NescioError, match="exists already"):
        export(run, out, anyway=True)
