"""The core without any extra: what it needs, what it imports, and the line that names a missing extra."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

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
    special = (
        "nescio.serve", "nescio.engines.vllm", "nescio.engines.decode.int8", "nescio.integrations.lm_eval",
        "nescio.integrations.litellm",
    )  # fmt: skip
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
