"""Results of long work on the disk, under what was asked for. Knows JSON; nothing of what is asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nescio.files import fingerprint, write_json


class Kept:
    """What was finished before is not done again: not after a kill, and not when two tables ask for the same.

    Args:
        folder: Of the results, a file each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, kind: str, asked: Any, work: Callable[[], Any]) -> Any:
        """The result of a piece of work, done now if it was not before.

        Args:
            kind: Begins the file's name.
            asked: Plain data that decides the result.
            work: Gives the result, as plain data.
        """
        path = self.folder / f"{kind}-{fingerprint(asked)}.json"
        if not path.exists():
            write_json(path, work())
        return json.loads(path.read_text(encoding="utf-8"))
