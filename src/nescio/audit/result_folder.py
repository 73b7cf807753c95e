"""The folder of an audit's result: it can be written, and holds no result of something else."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nescio.core.alone import alone
from nescio.core.errors import NescioError
from nescio.core.files import read_object

NAME = "audit.json"
"""Name of the result."""

_WORDS = {
    "model": "model", "adapter": "adapter", "endpoint": "endpoint", "system": "system sentence", "source": "source",
    "file": "file of people or dialogs",
}  # fmt: skip


def check_result(out: Path, audited: Mapping[str, Any]) -> None:
    """Check that a folder's result, if it holds one, is of the same model, sentence and source: it will be replaced.

    Args:
        out: The folder.
        audited: What the new result will be of, by the names that stand in `audit.json`.

    Raises:
        NescioError: It is of something else.
    """
    if not (out / NAME).exists():
        return
    before = read_object(out / NAME, "delete it")
    for name, word in _WORDS.items():
        # A field is missing where an older version wrote the result.
        if name in before and not _are_alike(before[name], audited.get(name)):
            was = "none" if before[name] is None else before[name]
            raise NescioError(f"{out}: holds the result of another {word} ({was}); give --out {_free(out)}")


def _are_alike(one: str | None, other: str | None) -> bool:
    """Return whether two names are equal, or lead to the same file."""
    return one == other or (bool(one and other) and Path(str(one)).resolve() == Path(str(other)).resolve())


def _free(out: Path) -> Path:
    """Return a folder beside another that is not there yet."""
    number = 2
    while (free := out.with_name(f"{out.name}-{number}")).exists():
        number += 1
    return free


@contextmanager
def opened(out: Path) -> Iterator[None]:
    """Make a folder and hold it: two audits would write into each other's answers, and pay for them twice.

    It is taken away again if an error leaves nothing in it.

    Raises:
        NescioError: It cannot be written, or another process holds it.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise NescioError(f"--out {out}: cannot be written ({error.strerror}); give another folder") from error
    try:
        with alone(out):
            yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # something is in it
                folder.rmdir()
        raise
