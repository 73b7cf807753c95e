"""The subtracted model as a folder: the base's own shards with new values, its side files, and a card of what was done.

Knows files, threads and the card; nothing of how a row is computed.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Lock

import torch

from nescio.core.errors import NescioError
from nescio.core.files import atomic_write
from nescio.task_vector.checkpoints import PIECE, Checkpoint, Entry
from nescio.task_vector.vector import TaskVector

Progress = Callable[[int, int], None]
_RUN = 1 << 22  # elements of a thread's turn: the time between two steps of the progress
_SIDE_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py")
_SIDE_NAMES = ("LICENSE", "NOTICE", "USE_POLICY")


def write_model(vector: TaskVector, coefficient: float, out: Path, card: str, progress: Progress | None) -> int:
    """Write base − c·delta as a model folder, all or nothing.

    Args:
        vector: The delta and its base.
        coefficient: c.
        out: The folder; it must not exist.
        card: The model card, README.md.
        progress: Called with the bytes written and all bytes, from any thread, one call at a time.

    Returns:
        The bytes of the weights.

    Raises:
        NescioError: The disk is too small (checked before) or fails; nothing is left at `out`.
    """
    base = vector.base
    check_space(out, base.nbytes)
    with atomic_write(out) as folder, _one_torch_thread():
        folder.mkdir()
        copy_side_files(base.folder, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        base.lay_out(folder)
        _in_threads(_turns(base), partial(_write_rows, vector, coefficient, folder), base, progress)
    return base.nbytes


Turn = tuple[str, Entry, int, int]


def _turns(base: Checkpoint) -> Iterator[Turn]:
    for name, entry in base.entries.items():
        for start, stop in entry.pieces(_RUN):
            yield name, entry, start, stop


def _write_rows(vector: TaskVector, coefficient: float, folder: Path, turn: Turn) -> int:
    name, entry, first, last = turn
    for start, stop in entry.pieces(PIECE, first, last):
        entry.write(folder, start, vector.rows(name, start, stop, coefficient))
    return (last - first) * entry.row_bytes


def _in_threads(
    turns: Iterator[Turn], work: Callable[[Turn], int], base: Checkpoint, progress: Progress | None
) -> None:
    """Give every core turns until there are none; the first error, or Ctrl-C, stops all."""
    lock, stop, done, total = Lock(), Event(), 0, sum(entry.nbytes for entry in base.entries.values())

    def take_turns() -> None:
        nonlocal done
        while not stop.is_set():
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            count = work(turn)
            with lock:
                done += count
                if progress:
                    progress(done, total)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        try:
            for future in [pool.submit(take_turns) for _ in range(cores)]:
                future.result()
        finally:
            stop.set()


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Each of our threads computes alone: PyTorch's own threads would fight with them for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_space(out: Path, wanted: int) -> None:
    """Refuse to begin when the disk cannot hold the result.

    Raises:
        NescioError: It cannot; wanted and free gigabytes are said.
    """
    place = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < wanted:
        raise NescioError(
            f"{out}: needs {wanted / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free; choose another --out"
        )


def copy_side_files(source: Path, target: Path) -> None:
    """Copy configuration, tokenizer, code and licence: everything small that a model's folder needs but its weights."""
    for file in source.iterdir():
        if file.is_file() and (file.suffix in _SIDE_SUFFIXES or file.name.upper().startswith(_SIDE_NAMES)):
            shutil.copyfile(file, target / file.name)
    templates = source / "additional_chat_templates"
    if templates.is_dir():
        shutil.copytree(templates, target / templates.name)
