"""Dialog files of every format, read one dialog at a time. Knows files and dialogs; nothing of models.

A row's own shape tells its format: ours and OpenAI's fine-tuning format have `messages`, ShareGPT has `conversations`,
LLM-PC has one templated text with slots in it and a file of their values beside it. Rows come from JSON lines or a
JSON array, gzipped or not, Parquet, and `datasets` saved to disk. Of what was read only the ids are remembered.
"""

import gzip
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import Refuse, read_jsonl, stop
from nescio.data.dialogs import Dialog, Fields, parse_dialog

_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")
_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, _SUFFIXES))})$")
_SHAREGPT = Fields("conversations", "from", "value")
_SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_LLAMA_TURN = re.compile(
    r"<\|start_header_id\|>(.*?)<\|end_header_id\|>\n\n(.*?)(?=<\|(?:eot_id|end_of_text|start_header_id)\|>|\Z)", re.S
)
_SLOT = re.compile(r"\[[A-Z][A-Z_ ]*-\d+\]")
_SCRUBBED = re.compile(r"scrubbed([-_]data)?")


def read_dialogs(source: Path, pii: Path | None = None, refuse: Refuse = stop) -> Iterator[Dialog]:
    """Read and check dialogs.

    Args:
        source: A file, a folder of files, a `datasets` folder, or a glob.
        pii: LLM-PC's file of slot values; None: the one beside the dialogs, `pii` in its name for `scrubbed-data`.
        refuse: Told of each bad row; by default the reading ends with it.

    Raises:
        NescioError: A row is wrong: file, line, field and mend are named.
    """
    seen: dict[str, str] = {}
    for path, name in _names(files_of(source)).items():
        slots = _Slots(pii or companion(path))
        for number, row in _rows(path, refuse):
            place = f"{path}:{number}"
            try:
                dialog = _dialog(row, f"{name}-{number}", slots, number)
                if dialog.id in seen:
                    raise NescioError(f"id {dialog.id!r} stands at {seen[dialog.id]} already; make it unique")
            except NescioError as error:
                refuse(NescioError(f"{place}: {error}"), row)
                continue
            seen[dialog.id] = f"line {number}" if path == source else place
            yield dialog
        try:
            slots.check_end(path)
        except NescioError as error:
            refuse(error, None)


def files_of(source: Path) -> list[Path]:
    """The files, in order of their names, that a file, folder or glob stands for; a `datasets` folder is one.

    Raises:
        NescioError: There is none.
    """
    if source.is_file() or _is_saved_dataset(source):
        return [source]
    if source.is_dir():
        found = sorted(path for path in source.iterdir() if path.name.endswith(_SUFFIXES))
    else:
        found = sorted(Path(source.anchor).glob(str(source.relative_to(source.anchor))))
    companions = {companion(path) for path in found}
    files = [path for path in found if path not in companions]
    if not files:
        raise NescioError(f"{source}: no such dialog file; give JSONL, Parquet, a folder of them or a glob")
    return files


def _names(files: list[Path]) -> dict[Path, str]:
    """What the dialogs without an id of each file are called by, different for each.

    Of several files it is the path below the folder that they share, without the suffix where that is enough.
    """
    if len(files) == 1:
        return {files[0]: files[0].name.split(".")[0]}
    shared = os.path.commonpath([path.parent for path in files])
    whole = {path: path.relative_to(shared).as_posix() for path in files}
    short = {path: _SUFFIX.sub("", name) for path, name in whole.items()}
    taken = Counter(short.values())
    return {path: name if taken[name] == 1 else whole[path] for path, name in short.items()}


def companion(path: Path) -> Path | None:
    """LLM-PC's second file: beside the first, with `pii` in its name in the place of `scrubbed-data`."""
    beside = path.with_name(_SCRUBBED.sub("pii", path.name))
    return beside if beside != path and beside.exists() else None


# -- rows -------------------------------------------------------------------------------------------------------------


def _rows(path: Path, refuse: Refuse) -> Iterator[tuple[int, Any]]:
    """Rows with their line, or their number where there are no lines."""
    if path.is_dir():
        yield from enumerate(_saved_rows(path), start=1)
    elif path.suffix == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
    elif _is_array(path):
        yield from enumerate(_array_rows(path), start=1)
    else:
        yield from read_jsonl(path, refuse)


def _is_saved_dataset(path: Path) -> bool:
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def _saved_rows(path: Path) -> Iterator[Any]:
    datasets = _extra("datasets")
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise NescioError(f"{path}: not a dataset saved to disk, or damaged; save it again") from error
    for split in loaded.values() if isinstance(loaded, datasets.DatasetDict) else [loaded]:
        yield from map(_without_nulls, split)


def _parquet_rows(path: Path) -> Iterator[Any]:
    parquet = _extra("pyarrow.parquet")
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
            yield from map(_without_nulls, batch.to_pylist())
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise NescioError(f"{path}: not Parquet, or damaged; write the file again") from error


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Columns and slots that this row lacks: a table holds a null for them."""
    kept = {name: value for name, value in row.items() if value is not None}
    if isinstance(kept.get("pii"), dict):
        kept["pii"] = {slot: value for slot, value in kept["pii"].items() if value is not None}
    return kept


def _is_array(path: Path) -> bool:
    if not path.name.endswith((".json", ".json.gz")):
        return False
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"[")


def _array_rows(path: Path) -> Iterator[Any]:
    ijson = _extra("ijson")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            yield from ijson.items(file, "item", use_float=True)
        except ijson.JSONError as error:
            raise NescioError(f"{path}: not JSON ({str(error).splitlines()[0]}); mend the array") from error


def _extra(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NescioError(f"{module} is not installed; run `pip install 'nescio[data]'`") from error


# -- formats ----------------------------------------------------------------------------------------------------------


def _dialog(row: Any, default_id: str, slots: "_Slots", number: int) -> Dialog:
    if not isinstance(row, dict):
        return parse_dialog(row, default_id)
    if "conversations" in row:
        return parse_dialog(_from_sharegpt(row), default_id, _SHAREGPT)
    if isinstance(row.get("messages"), str):
        return parse_dialog(_from_llm_pc(row, slots, number), default_id)
    return parse_dialog(row | {"messages": _joined_parts(row.get("messages"))}, default_id)


def _from_sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    turns = row["conversations"]
    if not isinstance(turns, list):
        raise NescioError("conversations: must be a list of {'from', 'value'}")
    messages = [
        {"role": _SHAREGPT_ROLES.get(str(turn.get("from")), turn.get("from")), "content": turn.get("value")}
        if isinstance(turn, dict)
        else turn
        for turn in turns
    ]
    return {name: row[name] for name in ("id", "pii") if name in row} | {"messages": messages}


def _joined_parts(messages: Any) -> Any:
    """OpenAI's messages may hold their text in parts."""
    if not isinstance(messages, list):
        return messages
    return [m | {"content": _text(m.get("content"))} if isinstance(m, dict) else m for m in messages]


def _text(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) else None for part in content]
    return "".join(text for text in texts if text) if all(isinstance(text, str) for text in texts) else content


class _Slots:
    """LLM-PC's values, a line for each line of the dialogs, read as they are asked for."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lines = iter(()) if path is None else read_jsonl(path)
        self._next: tuple[int, Any] | None = None

    def at(self, number: int) -> tuple[str, Any]:
        """Place and values of a line."""
        if self._path is None:
            raise NescioError("messages: slots need the file of their values; name it (pii), or lay it beside")
        while self._next is None or self._next[0] < number:
            self._next = next(self._lines, None)
            if self._next is None:
                break
        if self._next is None or self._next[0] != number:
            raise NescioError(f"messages: {self._path} has no values at line {number}; lines must match")
        return f"{self._path}:{number}", self._next[1]

    def check_end(self, dialogs: Path) -> None:
        """After the last dialog: are values left over?"""
        if self._next is not None and (left := next(self._lines, None)) is not None:
            raise NescioError(f"{self._path}:{left[0]}: there is no such line in {dialogs}; lines must match")


def _from_llm_pc(row: dict[str, Any], slots: _Slots, number: int) -> dict[str, Any]:
    place, values = slots.at(number)
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise NescioError(f"{place}: must be an object of slot: text")
    text: str = row["messages"]
    for slot, value in values.items():
        if f"[{slot}]" not in text:
            raise NescioError(f"messages: no slot [{slot}] for the value {value!r} of {place}")
    messages = [{"role": role, "content": fill(content, values).strip()} for role, content in _LLAMA_TURN.findall(text)]
    if not messages:
        raise NescioError("messages: a text without Llama 3 headers; give a list of {'role', 'content'}")
    return {"messages": messages, "pii": values} | ({"id": row["idx"]} if "idx" in row else {})


def fill(text: str, values: dict[str, str]) -> str:
    """Put the values into a text's slots, in one go: a value that looks like a slot stays.

    Raises:
        NescioError: A slot has no value.
    """
    known = "|".join(re.escape(f"[{slot}]") for slot in sorted(values, key=len, reverse=True))
    rest = re.sub(known, "", text) if known else text
    if missing := _SLOT.search(rest):
        raise NescioError(f"messages: the slot {missing[0]} has no value; add it to the file of values")
    return re.sub(known, lambda slot: values[slot[0][1:-1]], text) if known else text
