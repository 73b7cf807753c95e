"""Two processes on the CPU against one, with the same global batch: the same curve, the same adapter."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import largest_difference

SCRIPT = Path(__file__).with_name("distributed_run.py")


def train(out: Path, processes: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    out.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(SCRIPT), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "done.json").read_text()), load_file(out / "a.safetensors")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("distributed")
    return [train(folder / str(processes), processes) for processes in (1, 2)]


def test_there_were_two_processes(runs: list[Any]) -> None:
    assert [done["world"] for done, _ in runs] == [1, 2]


def test_the_curves_are_the_same(runs: list[Any]) -> None:
    one, two = (done["log"] for done, _ in runs)
    assert len(one) == len(two) == 3 * 2 + 3
    for mine, theirs in zip(one, two, strict=True):
        assert mine.pop("split") == theirs.pop("split")
        assert theirs == pytest.approx(mine, rel=1e-4, abs=1e-6)


def test_a_loss_on_lower_layers_and_its_kept_half_are_the_same(runs: list[Any]) -> None:
    one, two = (done["rmu"] for done, _ in runs)
    assert len(one) == len(two) == 3 * 2 and one[-1]["retain"] > 0
    for mine, theirs in zip(one, two, strict=True):
        assert {"loss", "retain"} <= mine.keys()
        assert [theirs[key] for key in ("loss", "retain")] == pytest.approx(
            [mine[key] for key in ("loss", "retain")], rel=1e-3, abs=1e-7
        )


def test_the_adapters_are_the_same(runs: list[Any]) -> None:
    (_, one), (_, two) = runs
    assert largest_difference(two, one) < 1e-3
