"""Write a subtracted model: the base's shards with new values, its other files, and a model card."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from nescio.core.adapters import CONFIG, NOTES
from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.core.files import atomic_write
from nescio.task_vector.checkpoints import PIECE, Checkpoint
from nescio.task_vector.vector import TaskVector

_RUN = 1 << 22  # elements that a thread writes at a time; the progress is reported after them
_NOT_COPIED = (CONFIG, NOTES, ".bin.index.json")  # would make the copy an adapter, or name files that it lacks
_SIDE_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py")
_SIDE_NAMES = ("LICENSE", "NOTICE", "USE_POLICY")


def write_model(vector: TaskVector, coefficient: float, out: Path, card: str, progress: Progress | None) -> int:
    """Write base − c·delta as a model folder, all or nothing.

    Args:
        vector: The delta and its base.
        coefficient: c.
        out: The folder; it must not exist.
        card: The model card, README.md.
        progress: Called with the bytes written and all bytes.

    Returns:
        The number of tensors that are no longer the base's.

    Raises:
        NescioError: The disk is too small (checked before) or fails; nothing is left at `out`.
    """
    base, changed = vector.base, set[str]()
    check_space(out, base.nbytes)
    with atomic_write(out) as folder, _one_torch_thread():
        folder.mkdir()
        copy_side_files(base.folder, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        base.lay_out(folder)

        def write(name: str, first: int, last: int) -> None:
            entry = base.entries[name]
            for start, stop in entry.pieces(PIECE, first, last):
                rows = vector.rows(name, start, stop, coefficient)
                entry.write(folder, start, rows)
                if name in vector.selected and name not in changed and not torch.equal(rows, entry.read(start, stop)):
                    changed.add(name)

        _write_all(base, write, progress)
    return len(changed)


def _write_all(base: Checkpoint, write: Callable[[str, int, int], None], progress: Progress | None) -> None:
    """Write all rows with a thread per core; the first error, or Ctrl-C, stops all."""
    done, total = 0, sum(entry.nbytes for entry in base.entries.values())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    runs = [(name, *rows) for name, entry in base.entries.items() for rows in entry.pieces(_RUN)]
    with ThreadPoolExecutor(cores) as pool:
        try:
            for (name, first, last), _ in zip(runs, pool.map(lambda run: write(*run), runs), strict=True):
                done += (last - first) * base.entries[name].row_bytes
                if progress:
                    progress(done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Let each of our threads compute alone: PyTorch's own threads would compete with them for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_space(out: Path, wanted: int) -> None:
    """Check that the disk can hold the result.

    Raises:
        NescioError: It cannot; the message gives the gigabytes needed and free.
    """
    place = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < wanted:
        raise NescioError(
            f"{out}: needs {wanted / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free; choose another --out"
        )


def copy_licences(source: Path, target: Path) -> None:
    """Copy the files that say under which terms a model may be used; a hub id's are not at hand."""
    for file in source.iterdir() if source.is_dir() else ():
        if file.is_file() and file.name.upper().startswith(_SIDE_NAMES):
            shutil.copyfile(file, target / file.name)


def copy_side_files(source: Path, target: Path) -> None:
    """Copy configuration, tokenizer, code and licence: all that a model's folder needs besides its weights."""
    for file in source.iterdir():
        wanted = file.suffix in _SIDE_SUFFIXES or file.name.upper().startswith(_SIDE_NAMES)
        if file.is_file() and wanted and not file.name.endswith(_NOT_COPIED):
            shutil.copyfile(file, target / file.name)
    templates = source / "additional_chat_templates"
    if templates.is_dir():
        shutil.copytree(templates, target / templates.name)
