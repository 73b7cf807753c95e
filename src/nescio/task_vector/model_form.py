"""Write a subtracted model: the base's shards with new values, its other files, and a model card."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from nescio.core.callbacks import Note, Progress
from nescio.core.errors import NescioError
from nescio.core.files import atomic_write
from nescio.task_vector.checkpoints import INDEX, PIECE, Checkpoint, first_three
from nescio.task_vector.vector import TaskVector

_RUN = 1 << 22  # elements that a thread writes at a time; the progress is reported after them
# By name: a tuned model's folder is where trainers and people leave data, and a copy of it is published.
_PARTS = (
    INDEX, "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json", "params.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model*",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tekken.json",
    "spiece.model", "sentencepiece*.model", "*.tiktoken", "chat_template.json", "chat_template.jinja",
    "configuration_*.py", "modeling_*.py", "tokenization_*.py", "processing_*.py", "image_processing_*.py",
)  # fmt: skip
_TEMPLATES = "additional_chat_templates"
_LICENCES = ("LICENSE", "NOTICE", "USE_POLICY")
_PERHAPS_PARTS = (".json", ".txt", ".model", ".jinja", ".py")  # of other names: the user is told of these


def write_model(
    vector: TaskVector, coefficient: float, out: Path, card: str, progress: Progress | None, note: Note | None = None
) -> int:
    """Write base − c·delta as a model folder, all or nothing.

    Args:
        vector: The delta and its base.
        coefficient: c.
        out: The folder; it must not exist.
        card: The model card, README.md.
        progress: Called with the bytes written and all bytes.
        note: Called with a line that names files of the base's folder that were left behind, if there are any.

    Returns:
        The number of tensors that are no longer the base's.

    Raises:
        NescioError: The disk is too small (checked before) or fails; nothing is left at `out`.
    """
    base, changed = vector.base, set[str]()
    check_space(out, base.nbytes)
    with atomic_write(out) as folder, _one_torch_thread():
        folder.mkdir()
        left = copy_side_files(base.folder, folder)
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
    if left and note:
        place = Path(base.name).name
        note(f"left behind in {place}, as no part of a model: {first_three(left)}; copy yourself what is one")
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
        if file.is_file() and file.name.upper().startswith(_LICENCES):
            shutil.copyfile(file, target / file.name)


def copy_side_files(source: Path, target: Path) -> list[str]:
    """Copy configuration, tokenizer, code and licence: all that a model's folder needs besides its weights.

    Returns:
        The names of other files that a program might read with a model; they were not copied.
    """
    copy_licences(source, target)
    left = []
    for file in sorted(source.iterdir()):
        if not file.is_file() or (target / file.name).exists():
            continue
        if any(fnmatchcase(file.name, part) for part in _PARTS):
            shutil.copyfile(file, target / file.name)
        elif file.suffix in _PERHAPS_PARTS and not file.name.endswith(".index.json"):  # would name files that it lacks
            left.append(file.name)
    if templates := sorted((source / _TEMPLATES).glob("*.jinja")):
        (target / _TEMPLATES).mkdir()
        for file in templates:
            shutil.copyfile(file, target / _TEMPLATES / file.name)
    return left
