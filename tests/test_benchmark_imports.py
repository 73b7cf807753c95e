"""Benchmarks run rarely, and some only with a GPU or vLLM: what they import of nescio must be there all the same."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [path for folder in ("benchmarks", "examples") for path in sorted((ROOT / folder).glob("*.py"))]


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the modules of nescio that a script imports from, each with a name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nescio":
            yield from ((str(node.module), alias.name) for alias in node.names)


def defined(module: str) -> set[str]:
    """Return the names at the top of a module, without running it: it may need what is not installed."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, f"there is no module {module}"
    names = {path.stem for path in Path(spec.origin).parent.iterdir()} if spec.submodule_search_locations else set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
                names |= {alias.asname or alias.name for alias in aliases}
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_is_there(script: Path) -> None:
    missing = [(module, name) for module, name in imported(script) if name not in defined(module)]
    assert not missing
