"""A missing optional library is one line that names its extra."""

import sys
from pathlib import Path

import pytest

from nescio.core.errors import NescioError
from nescio.core.extras import require


def test_an_installed_module_is_returned() -> None:
    assert require("json.decoder", "spacy", "a test") is sys.modules["json.decoder"]


@pytest.mark.parametrize("module", ["nowhere_at_all", "nowhere_at_all.inside"])
def test_a_missing_library_is_named_with_its_extra(module: str) -> None:
    with pytest.raises(NescioError) as refused:
        require(module, "figures", "the report")
    assert str(refused.value) == "the report: nowhere_at_all is not installed; run `pip install 'nescio[figures]'`"


def test_what_a_library_itself_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import missing_piece\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NescioError, match=r"^x: missing_piece is not installed; run `pip install 'nescio\[a\]'`$"):
        require("half_installed", "a", "x")


def test_a_broken_library_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("raise ImportError('libfoo.so: none\\nand more')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NescioError) as refused:
        require("broken_library", "a", "x")
    assert str(refused.value).startswith("x: broken_library cannot be imported (libfoo.so: none); run `pip")
    assert "\n" not in str(refused.value)
