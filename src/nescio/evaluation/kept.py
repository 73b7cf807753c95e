"""Results of long work on the disk, each under what was asked for. Knows JSON; nothing of what is asked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nescio.core.files import append_jsonl, fingerprint, read_appended


class Kept:
    """What was finished before is not done again: not after a kill, and not when two tables ask for the same.

    Args:
        folder: Of the results: JSON lines of `{"key", "result"}`, a file for each kind.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, kind: str, asked: Sequence[Any], work: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """The results of pieces of work, one a piece; those that are not there are done now, together.

        Args:
            kind: Names the file.
            asked: Plain data that decides each result. Pieces of which it is the same are done once.
            work: Given the numbers of the pieces to do, gives their results, as plain data.
        """
        path, keys = self.folder / f"{kind}.jsonl", [fingerprint(each) for each in asked]
        known = _read(path)
        missing = {key: number for number, key in enumerate(keys) if key not in known}
        if missing:
            results = work(list(missing.values()))
            self.folder.mkdir(parents=True, exist_ok=True)
            append_jsonl(path, [{"key": k, "result": result} for k, result in zip(missing, results, strict=True)])
            known = _read(path)
        return [known[key] for key in keys]


def _read(path: Path) -> dict[str, Any]:
    return {row["key"]: row["result"] for row in read_appended(path)}
