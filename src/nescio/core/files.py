"""Read and write files: nothing is half-written, and every bad line is named."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nescio.core.encodings import open_utf8
from nescio.core.errors import NescioError
from nescio.core.file_modes import let_umask_decide
from nescio.core.full_disk import full_disk, no_space

# A text may hold a lone surrogate, which UTF-8 has no bytes for: it is written as JSON escapes it, and read back.
_UTF8: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}

LONGEST_LINE = 16 << 20
"""A longer line, in bytes, is a broken file, not a row."""

_SHOWN = 1000  # bytes of a bad line that are kept

Refuse = Callable[[NescioError, Any], None]
"""Called with the error of a bad row and the row; raises to stop, or returns to skip the row."""


def stop(error: NescioError, row: Any) -> None:
    """Refuse a row by raising its error."""
    raise error


class SetAside:
    """Refuses rows by writing them to a file with their errors, and counts them.

    Args:
        path: JSON lines of `{"error", "row"}`; an existing file is emptied.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self.first: NescioError | None = None
        write_text(path, "")

    def __call__(self, error: NescioError, row: Any) -> None:
        """Write one row."""
        append_jsonl(self.path, [{"error": str(error), "row": row}])
        self.first = self.first or error
        self.count += 1


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write a file or a folder to; it replaces `path` only when the block ends without an error.

    Args:
        path: The final path. Its parent is created when missing. A file replaces a file, and a folder a folder.

    Raises:
        NescioError: The disk is full, the place cannot be written, or a file would replace a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise disk_error(path, error) from error
    try:
        new, old = scratch / path.name, scratch / f".{path.name}"
        with full_disk(path):
            yield new
        let_umask_decide(new)
        if new.is_file():
            check_no_folder(path)
        if path.is_dir():  # moved away whole: a kill between the two moves loses neither folder
            path.replace(old)
        try:
            new.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise
    except OSError as error:
        named = Path(str(error.filename or scratch))
        if not (named.is_relative_to(scratch) or named.is_relative_to(path)):
            raise  # of another file, such as one that is read
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def expanded(path: str | Path) -> Path:
    """Return a path with a user's home in the place of `~` or `~user`.

    Raises:
        NescioError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise NescioError(f"{path}: no such user; write the path without ~") from error


def check_no_folder(path: Path) -> None:
    """Check that the place of a file to write is no folder, before the work for it is done.

    Raises:
        NescioError: It is one.
    """
    if path.is_dir():
        raise NescioError(f"{path}: is a folder; name a file in it")


def disk_error(path: Path, error: OSError) -> NescioError:
    """Return the one line for a disk that is full, or a place that cannot be written."""
    if error.errno == errno.ENOSPC:
        return no_space(path)
    return NescioError(f"{path}: cannot be written ({error.strerror or error}); choose another place with --out")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with atomic_write(path) as scratch:
        scratch.write_text(text, **_UTF8)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented, keys in their given order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_object(path: Path, fix: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: JSON.
        fix: What to do when it can't be read; ends the error's line.

    Raises:
        NescioError: The file is missing or damaged, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NescioError(f"{path}: cannot be read ({error.strerror}); {fix}") from error
    except ValueError as error:
        raise NescioError(f"{path}: not a JSON object ({error}); {fix}") from error
    if not isinstance(value, dict):
        raise NescioError(f"{path}: not a JSON object; {fix}")
    return value


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write one JSON object a line, atomically.

    Returns:
        How many rows were written.
    """
    count = 0
    with atomic_write(path) as scratch, scratch.open("w", **_UTF8) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path, refuse: Refuse = stop, *, unique_keys: bool = False) -> Iterator[tuple[int, Any]]:
    """Read JSON lines, gzipped or not, as `(line number from 1, value)`; blank lines are skipped.

    Args:
        path: The file.
        refuse: Called with each line that is no JSON, not UTF-8 or longer than `LONGEST_LINE`; raises by default.
        unique_keys: Also refuse an object with a key twice, of which JSON readers silently take the last.

    Raises:
        NescioError: The file is missing or damaged, or a line is wrong (the line is named).
    """
    for number, raw in _lines(path):
        if not raw.strip():
            continue
        try:
            value = parse_line(path, number, raw, unique_keys)
        except NescioError as error:
            refuse(error, raw[:_SHOWN].decode("utf-8", "replace"))
            continue
        yield number, value


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; of one that is too long just the first bytes, one more than allowed."""
    with open_utf8(path) as file:
        number = 0
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            yield number, raw
            while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST_LINE + 1)


def parse_line(path: Path, number: int, raw: bytes, unique_keys: bool = False) -> Any:
    """Return the value of one line of JSON.

    Raises:
        NescioError: It is too long or too deep, not UTF-8, no JSON, or has a key twice where they must be unique.
    """
    if len(raw) > LONGEST_LINE:
        raise NescioError(f"{path}:{number}: longer than {LONGEST_LINE >> 20} MiB; one line must be one row")
    try:  # a line may begin with a byte-order mark where files were joined
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unique if unique_keys else None)
    except _TwiceError as error:
        raise NescioError(f"{path}:{number}: {error.args[0]}: the key stands there twice; keep one") from error
    except UnicodeDecodeError as error:
        raise NescioError(f"{path}:{number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        spread = raw.strip() == b"{"  # as many tools write an object for people to read
        fix = f"jq -c . {path.name} puts an object that spans lines on one" if spread else ""
        raise NescioError(
            f"{path}:{number}: not JSON ({error.msg} at column {error.colno}); every line must be one JSON value"
            f"{fix and '; '}{fix}"
        ) from error
    except ValueError as error:  # Python reads no whole number of more than 4,300 digits
        raise NescioError(f"{path}:{number}: a number has too many digits; write it as text") from error
    except RecursionError as error:
        raise NescioError(f"{path}:{number}: nested too deep to be read; write the row flatter") from error


class _TwiceError(ValueError):
    """An object has a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return value


def append_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append JSON objects, a line each, and flush them to the disk: all of them, or none.

    Raises:
        NescioError: The disk is full or the place cannot be written.
    """
    before = None
    try:
        before = path.stat().st_size if path.exists() else 0
        with path.open("a", **_UTF8) as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if before is not None and path.exists():  # a half line would join the row that another thread appends next
            os.truncate(path, before)
        raise disk_error(path, error) from error


def read_appended(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that `append_jsonl` wrote; a half-written last line is removed from the file."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    if not raw.endswith(b"\n"):  # cut, not written again: on a full disk that would lose all rows
        os.truncate(path, raw.rfind(b"\n") + 1)
    return [row for _, row in read_jsonl(path)]


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value with sorted keys: the same content gives the same sixteen characters."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(**_UTF8)).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their relative names."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]
