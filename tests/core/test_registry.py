"""The registry: what the modules of a package register, found from any thread."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest

from nescio.core.errors import NescioError
from nescio.core.registry import Registry

SLOW = """
import time
from {name} import THINGS
assert "slow" not in THINGS  # a module may look something up while it is imported
time.sleep(0.3)
THINGS.register("slow")(1)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    name = f"things_{abs(hash(request.node.nodeid))}"
    (tmp_path / name).mkdir()
    init = f"from nescio.core.registry import Registry\nTHINGS = Registry('{name}.none', 'thing', '{name}')\n"
    (tmp_path / name / "__init__.py").write_text(init)
    (tmp_path / name / "slow.py").write_text(SLOW.format(name=name))
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def things(package: str) -> "Registry[int]":
    __import__(package)
    found: Registry[int] = sys.modules[package].THINGS
    return found


def test_threads_that_look_up_at_once_all_find_what_is_there(package: str) -> None:
    registry, together = things(package), Barrier(8)

    def look_up(_: int) -> int:
        together.wait()
        return registry.get("slow")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look_up, range(8))) == [1] * 8


def test_a_module_that_cannot_be_imported_is_told_at_each_look_up(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "worse.py").write_text("raise RuntimeError('broken')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            things(package).get("slow")


def test_an_unknown_name_is_one_line_with_the_known_ones(package: str) -> None:
    with pytest.raises(NescioError, match="thing 'fast': unknown; known here: slow"):
        things(package).get("fast")
    with pytest.raises(NescioError, match="thing 'slow' is registered twice"):
        things(package).register("slow")(2)


class Point:
    """An entry point of a package."""

    def __init__(self, name: str, package: str, version: str = "1") -> None:
        self.name, self.value, self.dist = name, package, SimpleNamespace(name=package, version=version)

    def load(self) -> str:
        return f"of {self.value}"


def test_a_built_in_name_is_listed_as_what_it_is(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [Point("slow", "theirs"), Point("fast", "theirs"), Point("odd", "theirs"), Point("odd", "others")]
    registry = things(package)
    assert registry.get("slow") == 1
    monkeypatch.setattr("nescio.core.registry.entry_points", lambda group: points)
    assert registry.get("slow") == 1 and registry.get("fast") == "of theirs"
    assert {each.name: each.origin for each in registry.listings()} | {"odd": ""} == {
        "slow": "nescio", "fast": "theirs 1", "odd": "",
    }  # fmt: skip
    with pytest.raises(NescioError, match="thing 'odd': brought by others 1 and by theirs 1; uninstall one"):
        registry.get("odd")
