"""Who may read a file: secrets their owner alone, weights whoever the umask lets."""

import os
import stat
from pathlib import Path

from nescio.core.errors import NescioError


def check_private(path: Path) -> None:
    """Check that only its owner can read a file; on Windows, whose modes say nothing about it, nothing is checked.

    Raises:
        NescioError: Others can read it.
        OSError: It is missing, or its folder cannot be read.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        raise NescioError(f"{path}: readable by others (mode {mode:o}); run chmod 600 {path}")


def let_umask_decide(path: Path) -> None:
    """Give weights the mode that any new file gets: safetensors makes them 0600, so no other account could serve them.

    Args:
        path: A file, or a folder with them; its parent can be written.
    """
    files = [path] if path.is_file() else path.rglob("*.safetensors")
    if weights := [file for file in files if file.suffix == ".safetensors" and not file.is_symlink()]:
        fresh = path.with_name(f".new-{path.name}")  # os.umask tells the umask only by changing it, for all threads
        fresh.touch()
        mode = stat.S_IMODE(fresh.stat().st_mode)
        fresh.unlink()
        for file in weights:
            if stat.S_IMODE(file.stat().st_mode) != mode:  # some file systems refuse every change
                file.chmod(mode)
