"""The history of benchmarks: one line a run, and what got slower since the last on a machine of the same kind."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def history() -> Any:
    spec = importlib.util.spec_from_file_location("_history", ROOT / "benchmarks/_history.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(rate: float, seconds: float, cpu: str = "x") -> dict[str, Any]:
    rows = [
        {"contender": "ours", "guided": True, "batch": 1, "tokens_per_second": rate, "step_seconds": 1.0},
        {"contender": "ours", "guided": True, "batch": 8, "tokens_per_second": 50.0, "step_seconds": seconds},
    ]
    return {"date": "2026-01-01", "commit": "abc", "machine": {"cores": 2, "cpu": cpu}, "rows": rows, "ratios": {}}


def test_the_last_run_on_a_machine_of_the_same_kind_is_found(history: Any, tmp_path: Path) -> None:
    path = tmp_path / "results/x.jsonl"
    assert history.last_like(path, run(1, 1)) is None
    for each in (run(10, 1), run(20, 1), run(30, 1, cpu="y")):
        history.record(path, each)
    assert history.last_like(path, run(1, 1)) == run(20, 1)
    assert history.last_like(path, run(1, 1, cpu="z")) is None


def test_what_got_slower_is_said_and_nothing_else(history: Any) -> None:
    assert history.slower(run(95, 1.05), run(100, 1.0)) == []
    assert history.slower(run(200, 0.5), run(100, 1.0)) == []
    rate, seconds = history.slower(run(80, 1.5), run(100, 1.0))
    assert "tokens_per_second 100 → 80 (-20%)" in rate
    assert "step_seconds 1 → 1.5 (+50%)" in seconds


def test_a_row_is_compared_with_the_row_of_its_size(history: Any) -> None:
    more = run(100, 1.0)
    more["rows"].insert(1, {"contender": "ours", "guided": True, "batch": 4, "tokens_per_second": 20.0})
    assert history.slower(more, run(100, 1.0)) == [], "a size that was not measured before is no row that got slower"
    (line,) = history.slower(run(100, 2.0), more)
    assert line.startswith("batch 8, ours, guided True: step_seconds")


def test_each_recorded_run_says_where_and_when(history: Any) -> None:
    for path in (ROOT / "benchmarks/results").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert {"date", "commit", "machine", "versions", "rows", "ratios"} <= json.loads(line).keys(), path
