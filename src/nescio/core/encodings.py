"""Open text files as UTF-8, whatever they are packed or encoded in."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from nescio.core.errors import NescioError

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}


@contextmanager
def open_utf8(path: Path) -> Iterator[BinaryIO]:
    """Open a text file, gzipped or not, as bytes of UTF-8 without a byte-order mark.

    A file in UTF-16 or UTF-32, as Windows' tools write them, is converted in memory.

    Raises:
        NescioError: It is missing or cannot be read, or is not in the encoding that its beginning says; or its gzip is
            damaged, which may show only as it is read.
    """
    try:
        with _as_utf8(path) as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise NescioError(f"{path}: damaged gzip; pack the file again") from error


def _as_utf8(path: Path) -> BinaryIO:
    try:
        with path.open("rb") as packed:
            is_gzip = packed.read(2) == b"\x1f\x8b"  # whatever the file is called
    except FileNotFoundError as error:
        raise NescioError(f"{path}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise NescioError(f"{path}: is a folder; name a file in it") from error
    except OSError as error:
        raise NescioError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    file = cast(BinaryIO, gzip.open(path) if is_gzip or path.suffix.lower() == ".gz" else path.open("rb"))  # noqa: SIM115
    try:
        start = file.read(4)
        # The longer mark first: UTF-32's begins like UTF-16's.
        encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
        if encoding is None and b"\0" in start[:2]:  # JSON begins with two ASCII characters
            encoding = "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
        file.seek(len(codecs.BOM_UTF8) if encoding == "utf-8" else 0)
        if encoding in (None, "utf-8"):
            return file
        with file:
            return io.BytesIO(file.read().decode(encoding).encode())
    except UnicodeDecodeError as error:
        raise NescioError(f"{path}: begins as {encoding}, but is not; save it as UTF-8") from error
    except BaseException:
        file.close()
        raise
