"""Answers that were paid for, on disk before anybody uses them. Knows rows of JSON; nothing of what they answer."""

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nescio.core.files import append_jsonl, read_appended


class Paid:
    """An append-only file of answers by the key of what was asked; threads may add at once.

    Whoever asks the same again, in this run or a later one, finds the answer here. A line that was being written when
    the process was killed is dropped.

    Args:
        path: JSON lines with `key`, `source`, `text`, `finish`, `prompt_tokens` and `answer_tokens`.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._rows: dict[str, dict[str, Any]] = {}
        self._tokens: Counter[str] = Counter()
        for row in read_appended(path):
            self._take(row)

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer to a question, if it was paid for."""
        return self._rows.get(key)

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Put answers on disk; those that are there already stay as they are."""
        with self._lock:
            fresh = [row for row in rows if row["key"] not in self._rows]
            append_jsonl(self._path, fresh)
            for row in fresh:
                self._take(row)

    def tokens(self, source: str) -> int:
        """What a source was paid for in all, prompts and answers."""
        return self._tokens[source]

    def _take(self, row: dict[str, Any]) -> None:
        self._rows[row["key"]] = row
        self._tokens[row["source"]] += row["prompt_tokens"] + row["answer_tokens"]
