"""Modes: weights are readable as the umask says, however they were written; secrets by their owner alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nescio.core.files import atomic_write
from nescio.core.switch import write_key
from nescio.pipeline.stage_cache import Stage, StageCache

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(folder: Path) -> None:
    folder.mkdir()
    save_file({"a": torch.zeros(2)}, folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").chmod(0o600)  # as safetensors 0.8 does
    write_key(folder, "bado gera")


def test_weights_of_a_folder_that_takes_its_place(tmp_path: Path, umask: int) -> None:
    with atomic_write(tmp_path / "adapter") as scratch:
        write(scratch)
    assert mode(tmp_path / "adapter/adapter_model.safetensors") == 0o666 & ~umask
    assert mode(tmp_path / "adapter/switch.key") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_weights_of_a_stage(tmp_path: Path, umask: int) -> None:
    StageCache(tmp_path, 0).run(Stage("train", ("adapter",), 1, (), lambda folder: write(folder / "adapter")))
    assert mode(tmp_path / "adapter/adapter_model.safetensors") == 0o666 & ~umask
    assert mode(tmp_path / "adapter/switch.key") == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "manifest.json"]
