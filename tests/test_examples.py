"""The examples run as they stand, each in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import teach_to_ask

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SHOWN = {
    "own_detector.py": ["ORDER: AB-12345", "DENIED: Project Heron"],
    "own_loss.py": ["'loss': [1.0]", "'margin': [2.0]"],
    "own_format.py": ["ticket-17", "user: Hi, I'm Ann Lee.", "assistant: Hello Ann! How can I help?"],
}


def run(name: str, *arguments: str, cwd: Path) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_prints_what_it_shows(name: str, tmp_path: Path) -> None:
    printed = run(name, cwd=tmp_path)
    assert all(piece in printed for piece in SHOWN[name]), printed


@pytest.mark.slow
def test_the_quickstart_goes_the_whole_way(world: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(world / "base", base)
    teach_to_ask(base)  # anchors are prompts that the base makes up
    printed = run("quickstart.py", str(base), str(tmp_path / "run"), cwd=tmp_path)
    assert all(piece in printed for piece in ("trained", "prob × 3", "baked"))
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").is_file()
    assert (tmp_path / "run" / "report.html").is_file()


def test_every_example_is_run_and_stays_short() -> None:
    files = {path.name: path.read_text(encoding="utf-8").splitlines() for path in EXAMPLES.glob("*.py")}
    assert set(files) == {*SHOWN, "quickstart.py"}
    assert max(map(len, files.values())) <= 60
