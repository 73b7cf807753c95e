"""The leaderboard is the recorded comparisons, and says what is not measured."""

import json
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

from nescio.core.errors import NescioError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, on what the repository has."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # where it finds what it imports
    spec = util.spec_from_file_location("leaderboard", ROOT / "benchmarks/leaderboard.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def leaderboard(recorded: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    module = recorded
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "PAGE", tmp_path / "leaderboard.md")
    return module


def result(name: str) -> dict[str, object]:
    row = {
        "method": "tuned", "leak": 0.5, "leak_ci95": [0.4, 0.6], "leak_seeds": [0.5], "words": 0.4, "usefulness": 1.0,
        "words_ci95": [0.3, 0.5], "forget_quality_n": 3.0,
    }  # fmt: skip
    missing = (
        "leak_asked_for", "leak_otherwise", "leak_inverse", "leak_drawn", "rouge_retain", "loops", "rouge_forget",
        "rouge_outside", "exact_forget", "exact_retain", "extraction_strength", "mia_loss", "mia_min_k", "truth_ratio",
        "forget_quality", "model_utility", "task_aggregate", "semeval",
    )  # fmt: skip
    return {
        "benchmark": name, "quick": True, "base": "tiny", "seeds": 1, "words": 10, "machine": {"cores": 2, "cpu": "x"},
        "versions": {"nescio": "1"}, "measured": {s: {"questions": 3, "people": 1} for s in ("forget", "outside")},
        "diverged": [], "rows": [row | dict.fromkeys(missing)],
    }  # fmt: skip


def test_the_page_is_that_of_the_recorded_comparisons(recorded: ModuleType) -> None:
    written = (ROOT / "docs/leaderboard.md").read_text(encoding="utf-8")
    assert written == recorded.text(list(recorded.recorded())), "run python benchmarks/leaderboard.py"


def test_a_comparison_is_recorded_and_the_others_are_said_to_be_missing(
    leaderboard: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result("tofu")))
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", str(tmp_path / "result.json")])
    leaderboard.main()
    page = (tmp_path / "leaderboard.md").read_text()
    assert (tmp_path / "results/tofu-quick.jsonl").exists() and "## TOFU, quick" in page and "50 % [40 %, 60 %]" in page
    assert "nescio reproduce lume --data FOLDER --quick" in page and "nescio reproduce tofu" not in page
    assert ", 2 cores (x), nescio at " in page
    assert "(images/tofu-quick.svg)" in page and (tmp_path / "images/tofu-quick.svg").exists()


def test_a_file_that_is_no_comparison_is_refused(leaderboard: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(NescioError, match=r"other.json: benchmark: not one of lume, tofu"):
        leaderboard.take([tmp_path / "other.json"])
