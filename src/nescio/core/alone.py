"""A folder that one process works in at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.core.files import disk_error


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold a folder inside the `with` block: two processes would write into each other's working folders and answers.

    Where the system has no `flock` (Windows), nothing is held.

    Raises:
        NescioError: Another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = os.open(root, os.O_RDONLY)  # the folder itself, so that no lock file is left; a kill lets go of it
    except OSError as error:
        raise disk_error(root, error) from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NescioError(
                f"{root}: another process works in this folder; wait until it is done, or give another folder"
            ) from error
        except OSError:  # a network file system without locks
            pass
        yield
    finally:
        os.close(folder)
