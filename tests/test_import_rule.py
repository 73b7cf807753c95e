"""The import rule: it holds, and each of its contracts finds a planted import."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "nescio"
PLANTED = {
    "core": ("core/text.py", "nescio.pii.base"),
    "pii": ("pii/base.py", "nescio.engines.base"),
    "engines": ("engines/base.py", "nescio.pii.base"),
    "data": ("data/samples.py", "nescio.engines.torch_engine"),
    "training": ("training/batch.py", "nescio.pii.base"),
    "task_vector": ("task_vector/subtract.py", "nescio.engines.base"),
    "evaluation": ("evaluation/statistics.py", "nescio.training.batch"),
    "report": ("report/style.py", "nescio.evaluation.run"),
    "serve": ("serve/keys.py", "nescio.data.dialogs"),
    "audit": ("audit/common.py", "nescio.training.batch"),
    "integrations": ("integrations/transformers.py", "nescio.pii.base"),
    "pipeline": ("pipeline/progress.py", "nescio.serve.keys"),
    "reproduction": ("reproduction/paper.py", "nescio.cli.key"),
    "layers": ("data/pairs.py", "nescio.pipeline.recipe"),
    "circles": ("core/errors.py", "nescio.core.files"),
}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts against the package in a folder."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-logo", "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package and of its contracts."""
    shutil.copytree(PACKAGE, tmp_path / "nescio", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_the_import_rule_holds(copied: Path) -> None:
    done = lint_imports(copied)
    assert done.returncode == 0, done.stdout


def test_each_contract_finds_a_planted_import(copied: Path) -> None:
    for place, module in PLANTED.values():
        file = copied / "nescio" / place
        file.write_text(f"{file.read_text(encoding='utf-8')}\nimport {module}  # planted\n", encoding="utf-8")
    done = lint_imports(copied)
    assert done.returncode != 0
    kept = re.findall(r"^(.+) KEPT", done.stdout, re.M)
    assert kept == [], done.stdout


def test_every_package_has_a_contract() -> None:
    contracts = (ROOT / ".importlinter").read_text(encoding="utf-8")
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"cli"}  # above everything
    assert packages <= set(re.findall(r"^\[importlinter:contract:(\w+)\]", contracts, re.M))
    for name in packages:
        own = contracts.partition(f"[importlinter:contract:{name}]")[2].partition("[importlinter:contract")[0]
        assert "nescio.cli" in own, f"{name}'s contract does not forbid the command line"
