"""The disk cache: finished answers in a file of JSON lines, by the key of what was asked."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import append_jsonl, fingerprint, read_appended


class AnswerCache:
    """An append-only file of answers; threads may add at once.

    Whoever asks the same again, in this run or a later one, finds the answer here. A line that was being written when
    the process was killed is dropped.

    Args:
        path: JSON lines, each an object with `key` and whatever else belongs to the answer.
        needs: Fields that every line must have.

    Raises:
        NescioError: A line of the file is damaged.
    """

    def __init__(self, path: Path, *needs: str) -> None:
        self._path, self._lock, self._needs = path, threading.Lock(), ("key", *needs)
        self._rows: dict[str, dict[str, Any]] = {}
        for number, row in enumerate(read_appended(path), start=1):
            try:
                self._take(row)
            except (KeyError, TypeError) as error:
                raise NescioError(f"{path}:{number}: not a finished answer; delete the line") from error

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the row of a key, or None."""
        return self._rows.get(key)

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Put answers on disk; those that are there already stay as they are."""
        with self._lock:
            fresh = [row for row in rows if row["key"] not in self._rows]
            if fresh:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            append_jsonl(self._path, fresh)
            for row in fresh:
                self._take(row)

    def results(self, asked: Sequence[Any], work: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """Return the results of pieces of work; those that are missing are done now, together.

        Args:
            asked: For each piece, plain data that decides its result. Equal pieces are done once.
            work: Given the numbers of the missing pieces, returns their results as plain data.
        """
        # Results are returned as they are read from disk, so that a first run equals the ones after it.
        keys = [fingerprint(each) for each in asked]
        missing = {key: number for number, key in enumerate(keys) if key not in self._rows}
        if missing:
            results = work(list(missing.values()))
            self.add(
                {"key": key, "result": json.loads(json.dumps(result))}
                for key, result in zip(missing, results, strict=True)
            )
        return [self._rows[key]["result"] for key in keys]

    def _take(self, row: dict[str, Any]) -> None:
        for field in self._needs:
            row[field]
        self._rows[row["key"]] = row


class SourceAnswers(AnswerCache):
    """Replacement answers, and the tokens that each source spent on them.

    Args:
        path: JSON lines with `key`, `source`, `text`, `finish`, `prompt_tokens` and `answer_tokens`.
    """

    def __init__(self, path: Path) -> None:
        self._tokens: Counter[str] = Counter()
        super().__init__(path)

    def tokens(self, source: str) -> int:
        """Return the number of tokens that a source has used, prompts and answers."""
        return self._tokens[source]

    def _take(self, row: dict[str, Any]) -> None:
        super()._take(row)
        self._tokens[row["source"]] += row["prompt_tokens"] + row["answer_tokens"]
