"""The GPU's benchmark runs on whatever device there is, on a tiny model, with no row that fails."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_runs_small() -> None:
    command = [sys.executable, "-W", "ignore", "benchmarks/gpu.py", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith(("decode", "train"))]
    assert len([line for line in lines if "tokens per second" in line]) >= 8
    assert not [line for line in lines if "Error" in line], done.stdout
