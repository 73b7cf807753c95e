"""A full disk is one line, whichever library meets it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from nescio.core.errors import NescioError
from nescio.core.files import atomic_write
from nescio.core.full_disk import full_disk


def by_safetensors() -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def by_torch() -> None:
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 640 vs 598")


@pytest.mark.parametrize("write", [by_safetensors, by_torch])
def test_what_libraries_say_is_one_line(tmp_path: Path, write: Callable[[], None]) -> None:
    said = r"made: no space left on the disk; free some and run again; finished work is kept$"
    with pytest.raises(NescioError, match=said), full_disk(tmp_path / "made"):
        write()
    with pytest.raises(NescioError, match=said), atomic_write(tmp_path / "made"):
        write()
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^another$"), full_disk(tmp_path):
        raise RuntimeError("another")
