"""A package of another author: its plugins run in a recipe and on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_run import CLEAN

from nescio.core.files import write_jsonl

PACKAGE = Path(__file__).parent / "package"
PLUGINS = {
    ("nescio.detectors", "orders"), ("nescio.losses", "margin"), ("nescio.formats", "tickets"),
    ("nescio.engines", "capitals"), ("nescio.measures", "capitals"), ("nescio.spaces", "mean"),
    ("nescio.attacks", "shouted"),
}  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as pip installs it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for file in PACKAGE.rglob("*.*"):
        if "__pycache__" not in file.parts:
            (source / file.relative_to(PACKAGE)).parent.mkdir(exist_ok=True)
            (source / file.relative_to(PACKAGE)).write_bytes(file.read_bytes())
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", target, source], check=True, capture_output=True)
    return target


def nescio(*arguments: str, cwd: Path, installed: Path) -> "subprocess.CompletedProcess[str]":
    paths = [str(installed), str(Path(__file__).parents[2] / "src")]
    command = [sys.executable, "-c", "from nescio.cli.main import main; main()", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_each_is_one_short_file() -> None:
    files = [file for file in (PACKAGE / "shop_plugins").glob("*.py") if file.name != "__init__.py"]
    assert len(files) == len(PLUGINS)
    assert all(len(file.read_text().splitlines()) <= 30 for file in files)


def test_they_are_listed_with_the_package_that_brings_them(tmp_path: Path, installed: Path) -> None:
    listed = nescio("plugins", "--json", cwd=tmp_path, installed=installed)
    found = json.loads(listed.stdout)
    assert {(one["group"], one["name"]) for one in found if one["origin"] == "shop-plugins 2.1"} == PLUGINS
    assert {"group": "nescio.losses", "name": "orpo", "origin": "nescio"} in found
    assert "shop-plugins 2.1" in nescio("plugins", cwd=tmp_path, installed=installed).stdout


def test_a_recipe_uses_six_of_them(tmp_path: Path, installed: Path, world: Path) -> None:
    tickets = [
        {"ticket": [["customer", f"Where is my order? {CLEAN[n % 5]}"], ["agent", f"Your order AB-{n:05} is here."]]}
        for n in range(12)
    ]
    write_jsonl(tmp_path / "tickets.jsonl", tickets)
    fast = {"epochs": 1, "batch_size": 4, "lora": {"r": 2, "alpha": 4}}
    recipe = {
        "base": str(world / "base"), "tune": fast,
        "data": {"dialogs": "tickets.jsonl", "test_share": 0.25},
        "detector": {"model": "orders:AB"},
        # The tiny base answers a prompt like this by chance; the embedded model does everywhere.
        "generate": {"max_tokens": 24, "tries": 1, "sources": [{"name": "small", "model": "smollm2"}]},
        "train": fast | {"method": "margin", "beta": 0.5, "anchors": None},
        "bake": None,
        "evaluate": {
            "engine": {"kind": "capitals", "options": {"mark": "!"}},
            "samples": 3, "max_tokens": 8, "scales": [2], "spaces": ["mean"], "question_count": 0,
            "harmless_prompts": 0, "words": 0, "everyday": 0, "asked_for_samples": 0,
            "measures": [{"name": "capitals", "ending": "!"}],
        },
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    ended = nescio("run", "recipe.yaml", "--out", "run", cwd=tmp_path, installed=installed)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads((tmp_path / "run/eval/results.json").read_text())
    assert [(row["space"], row["capitals"]) for row in rows] == [(None, 1), (None, 1), (None, 1), ("mean", 1)]
    assert "gap" in (tmp_path / "run/adapter/log.jsonl").read_text()
    assert "capitals" in ended.stdout
    found = nescio(
        "scan", "run/data/test.jsonl", "--detector", "orders", "--field", "id", cwd=tmp_path, installed=installed
    )
    assert found.returncode == 0, found.stderr


def test_an_audit_uses_the_attack(tmp_path: Path, installed: Path) -> None:
    (tmp_path / "people.csv").write_text("name,phone\nAnna Ferrari,415-555-0101\nTom Hale,415-555-0102\n")
    asked = ("audit", "m", "--people", "people.csv", "--base-url", "http://localhost/v1", "--detector", "orders:AB")
    ended = nescio(*asked, "--attacks", "shouted", "--dry-run", cwd=tmp_path, installed=installed)
    assert ended.returncode == 0, ended.stderr
    assert "4 questions at most: 2 facts and as many made-up ones, 1 attack;" in ended.stdout


def test_a_broken_plugin_is_one_line(tmp_path: Path, installed: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/shop_broken.py").write_text("raise RuntimeError('not today\\nbut')\n")
    info = tmp_path / "broken/shop_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nescio.detectors]\nbroken = shop_broken:Nothing\n")
    (tmp_path / "texts.jsonl").write_text('"AB-12345"\n')
    ended = nescio("scan", "texts.jsonl", "--detector", "broken", cwd=tmp_path, installed=tmp_path / "broken")
    assert ended.returncode == 2
    assert ended.stderr == "nescio: detector 'broken' of shop-broken 1.0: cannot be imported (not today)\n"
    assert "broken" in nescio("plugins", cwd=tmp_path, installed=tmp_path / "broken").stdout
