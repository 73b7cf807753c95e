"""Safetensors checkpoints read and written by rows, so that a tensor of any size takes a few megabytes of memory.

The format: 8 bytes with the header's length (little-endian), a JSON header, the data. No pickle is ever opened.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nescio.core.errors import NescioError, first_line
from nescio.core.files import read_object
from nescio.core.model_source import resolve

PIECE = 1 << 16  # elements computed at a time; they fit into a core's cache
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
HEADS = ("lm_head.weight", "embed_out.weight")
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_FOREIGN = (".gguf", ".bin", ".pt", ".pth", ".ckpt")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "LICENSE*", "NOTICE*", "*POLICY*"]
_LONGEST_HEADER = 100_000_000  # the format's own limit
_AGAIN = "fetch or save the model again"
_CONVERT = (
    'python -c "from transformers import AutoModelForCausalLM as M; '
    "M.from_pretrained({source}).save_pretrained('converted')\""
)


@dataclass(frozen=True, slots=True)
class Entry:
    """Place of a tensor: its file, type and shape as in the header, and its first byte in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def rows(self) -> int:
        """Length of the first dimension; a scalar is one row."""
        return self.shape[0] if self.shape else 1

    @property
    def row_size(self) -> int:
        """Elements of a row."""
        return math.prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.row_size * DTYPES[self.dtype].itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.rows * self.row_bytes

    def pieces(self, elements: int, first: int = 0, last: int | None = None) -> Iterator[tuple[int, int]]:
        """Cut rows `first` to `last` into runs `(start, stop)` of about `elements`, at least one row each."""
        step, end = max(1, elements // max(1, self.row_size)), self.rows if last is None else last
        for start in range(first, end, step):
            yield start, min(start + step, end)

    def read(self, start: int, stop: int) -> Tensor:
        """Read rows `start` to `stop`, of shape `(stop - start, *shape[1:])`.

        Raises:
            NescioError: The file ends too early.
        """
        wanted = (stop - start) * self.row_bytes
        buffer = torch.empty(wanted, dtype=torch.uint8)
        view, got = buffer.numpy().data, 0
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.offset + start * self.row_bytes)
            while got < wanted:
                count = file.readinto(view[got:])
                if not count:
                    raise NescioError(f"{self.file}: ends while it is read; is something else writing to it?")
                got += count
        return buffer.view(DTYPES[self.dtype]).view(stop - start, *self.shape[1:])

    def read_all(self) -> Tensor:
        """Read the whole tensor."""
        return self.read(0, self.rows).view(self.shape)

    def equals(self, other: "Entry") -> bool:
        """Return whether another tensor has the same shape and values."""
        if self.shape != other.shape:
            return False
        return all(torch.equal(self.read(*piece).float(), other.read(*piece).float()) for piece in self.pieces(1 << 20))

    def write(self, folder: Path, start: int, rows: Tensor) -> None:
        """Write rows, from `start` on, to the same place of the file of the same name in another folder."""
        data = rows.contiguous().view(-1).view(torch.uint8).numpy().data
        with (folder / self.file.name).open("r+b", buffering=0) as file:
            file.seek(self.offset + start * self.row_bytes)
            while data:
                data = data[file.write(data) :]


@dataclass(frozen=True)
class Checkpoint:
    """A folder of safetensors: the entry of each tensor by name, in the shards' order, and the header of each shard."""

    name: str
    folder: Path
    entries: Mapping[str, Entry]
    headers: Mapping[Path, bytes]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The folder's config.json.

        Raises:
            NescioError: It is missing or damaged.
        """
        return read_object(self.folder / "config.json", _AGAIN)

    @cached_property
    def is_tied(self) -> bool:
        """Whether the head is the embedding: no head is stored, or the configuration ties a head of equal values.

        A head of other values is a head of its own, whatever the configuration says.
        """
        heads = [entry for name, entry in self.entries.items() if name.endswith(HEADS)]
        embedding = next((entry for name, entry in self.entries.items() if name.endswith(EMBEDDINGS)), None)
        flags = [c.get("tie_word_embeddings") for c in (self.config, self.config.get("text_config") or {})]
        if not heads or embedding is None:
            return not heads
        return True in flags and all(head.equals(embedding) for head in heads)

    @property
    def nbytes(self) -> int:
        """Bytes of all shards."""
        return sum(file.stat().st_size for file in self.headers)

    def lay_out(self, folder: Path) -> None:
        """Write shards of the same names, headers and sizes into another folder, without their data."""
        for file, header in self.headers.items():
            with (folder / file.name).open("wb") as out:
                out.write(header)
                out.truncate(file.stat().st_size)


def fetch_folder(name: str) -> Path:
    """Find a model's or an adapter's folder: a folder, `smollm2`, or a hub id, which is fetched into the hub's cache.

    Raises:
        NescioError: There is none, or it is a GGUF or pickle file.
    """
    _refuse_foreign(Path(name))
    found = resolve(name)
    if Path(found).is_dir():
        return Path(found)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(found, allow_patterns=_HUB_FILES))
    except Exception as error:  # the hub's, HTTP's and the cache's errors share no base class
        raise NescioError(
            f"{name}: cannot be fetched from the hub ({first_line(error)}); give a folder or try again"
        ) from error


def open_checkpoint(name: str) -> Checkpoint:
    """Open a model's safetensors and check that every shard is whole.

    Args:
        name: As for `fetch_folder`.

    Raises:
        NescioError: A shard is missing or truncated, or the weights are not safetensors (how to convert is said).
    """
    folder = fetch_folder(name)
    index = folder / INDEX
    weight_map: dict[str, str] = {}
    if index.is_file():
        weight_map = read_object(index, _AGAIN).get("weight_map") or {}
        files = [folder / file for file in dict.fromkeys(weight_map.values())]
        if (folder / SINGLE).is_file() and folder / SINGLE not in files:
            raise NescioError(
                f"{name}: holds {SINGLE} and {INDEX} with shards of its own: two sets of weights; delete the older one"
            )
    else:
        files = [folder / SINGLE]
    if not files or (not index.is_file() and not files[0].is_file()):
        for other in sorted(folder.iterdir()):
            _refuse_foreign(other)
        raise NescioError(f"{name}: holds no {SINGLE} and no {INDEX}; save the model with save_pretrained")
    headers: dict[Path, bytes] = {}
    entries: dict[str, Entry] = {}
    for file in files:
        if not file.is_file():
            raise NescioError(f"{file}: this shard is missing, {INDEX} lists it; fetch it again")
        headers[file], found = open_file(file)
        entries |= found
    lost = [tensor for tensor in weight_map if tensor not in entries]
    if lost:
        raise NescioError(f"{index}: lists {first_three(lost)}, which no shard holds; fetch the checkpoint again")
    return Checkpoint(name, folder, entries, headers)


def open_file(path: Path) -> tuple[bytes, dict[str, Entry]]:
    """Read a safetensors file's header.

    Returns:
        The header's bytes with its length in front, and the entries by name.

    Raises:
        NescioError: The header is damaged, or the file is shorter or longer than the header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        raw = file.read(8)
        length = struct.unpack("<Q", raw)[0] if len(raw) == 8 else size
        if 8 + length > size or length > _LONGEST_HEADER:
            raise NescioError(f"{path}: truncated or no safetensors file ({size} bytes); fetch it again")
        raw += file.read(length)
    try:
        header = json.loads(raw[8:])
        header.pop("__metadata__", None)
        entries = {name: _entry(path, len(raw), fields) for name, fields in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NescioError(f"{path}: the header is damaged ({error}); fetch the file again") from error
    end = max((entry.offset + entry.nbytes for entry in entries.values()), default=len(raw))
    if end != size:
        raise NescioError(f"{path}: truncated or damaged ({size} bytes, its header says {end}); fetch it again")
    return raw, entries


def _entry(path: Path, first: int, fields: dict[str, Any]) -> Entry:
    if fields["dtype"] not in DTYPES:
        raise ValueError(f"type {fields['dtype']} is not known here")
    begin, end = fields["data_offsets"]
    entry = Entry(path, fields["dtype"], tuple(fields["shape"]), first + begin)
    if entry.nbytes != end - begin:
        raise ValueError(f"{end - begin} bytes for shape {fields['shape']}")
    return entry


def first_three(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _refuse_foreign(path: Path) -> None:
    """Refuse a GGUF or pickle file, and say how to convert it."""
    if not path.is_file() or path.suffix not in _FOREIGN:
        return
    gguf = path.suffix == ".gguf"
    source = f"'{path.parent}'" + (f", gguf_file='{path.name}'" if gguf else "")
    why = (
        "GGUF is not subtracted from; convert it first"
        if gguf
        else "a pickle can run code and is not opened; if you trust it, convert it to safetensors"
    )
    raise NescioError(f"{path}: {why}: {_CONVERT.format(source=source)}")
