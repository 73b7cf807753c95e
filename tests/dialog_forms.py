"""Dialogs as files of every format, and detectors that find nothing, for the tests of reading."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.core.files import write_jsonl
from nescio.data.synthetic import generate, scrubbed
from nescio.pii.base import Span

ROWS = generate(6, seed=4)


class Blind:
    """Finds nothing: the dialogs record what is personal."""

    name = "blind"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[] for _ in texts]


def llama(messages: list[dict[str, str]]) -> str:
    """A conversation as LLM-PC has it."""
    turns = (f"<|start_header_id|>{m['role']}<|end_header_id|>\n\n{m['content']}<|eot_id|>" for m in messages)
    return "<|begin_of_text|>" + "".join(turns)


def sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt"}
    turns = [{"from": names[m["role"]], "value": m["content"]} for m in row["messages"]]
    return {"id": row["id"], "conversations": turns, "pii": row["pii"]}


def in_parts(row: dict[str, Any]) -> dict[str, Any]:
    messages = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in row["messages"]]
    return row | {"messages": messages}


def llm_pc(folder: Path) -> Path:
    write_jsonl(folder / "pii.jsonl", (row["pii"] for row in ROWS))
    path = folder / "scrubbed-data.jsonl"
    write_jsonl(path, ({"idx": row["id"], "messages": llama(scrubbed(row))} for row in ROWS))
    return path


def as_file(kind: str, folder: Path) -> Path:
    """The dialogs of `ROWS` in a format."""
    path = folder / "dialogs.jsonl"
    if kind == "llm-pc":
        return llm_pc(folder)
    if kind in ("parquet", "saved"):
        datasets = pytest.importorskip("datasets")
        table = datasets.Dataset.from_list(ROWS)
        path = folder / ("dialogs.parquet" if kind == "parquet" else "saved")
        table.to_parquet(str(path)) if kind == "parquet" else table.save_to_disk(str(path))
    elif kind == "array":
        path = folder / "dialogs.json"
        path.write_text(json.dumps([sharegpt(row) for row in ROWS]))
    elif kind == "gzip":
        path = folder / "dialogs.jsonl.gz"
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    else:
        change = {"ours": lambda row: row, "sharegpt": sharegpt, "openai": in_parts}[kind]
        write_jsonl(path, map(change, ROWS))
    return path


TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


class Never:
    """No detector is asked where slots are recorded.

    Args:
        unrecorded: Texts of dialogs without any slot, in which it finds nothing.
    """

    name = "never"

    def __init__(self, unrecorded: Sequence[str] = ()) -> None:
        self._unrecorded = unrecorded

    def find(self, texts: Any) -> list[list[Any]]:
        assert {*texts} <= {*self._unrecorded}
        return [[] for _ in texts]
