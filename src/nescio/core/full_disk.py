"""A full disk, as the libraries that write weights tell of it: in words, by errors of their own that are no OSError."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nescio.core.errors import NescioError

_SAID = ("No space left on device", "PytorchStreamWriter failed", "unexpected pos")
"""By safetensors, and by torch, whose writer gives no reason."""


def no_space(path: Path) -> NescioError:
    """Return the one line for a disk that is full."""
    return NescioError(f"{path}: no space left on the disk; free some and run again; finished work is kept")


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn what a library raises on a full disk into one line.

    Args:
        path: What is written.

    Raises:
        NescioError: The disk is full.
    """
    try:
        yield
    except (NescioError, OSError):
        raise
    except Exception as error:
        if not any(words in str(error) for words in _SAID):
            raise
        raise no_space(path) from error
