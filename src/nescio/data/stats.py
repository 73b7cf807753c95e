"""Counts and lengths of a file of dialogs, samples, candidates or pairs."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import stop
from nescio.data.formats import FORMATS
from nescio.data.read_dialogs import format_of, read_dialogs
from nescio.data.rows import is_saved_dataset, read_rows

Length = Callable[[str], int]

_COUNTED = {
    "dialogs": (),
    "samples": ("label",),
    "candidates": ("source", "strategy", "accepted", "reason"),
    "pairs": ("source", "twin"),
}
_TEXTS = {
    "dialogs": ("turn",),
    "samples": ("prompt", "rejected"),
    "candidates": ("text",),
    "pairs": ("prompt", "chosen", "rejected"),
}


def stats(path: Path, length: Length = len) -> dict[str, Any]:
    """Count a file of dialogs, samples, candidates or pairs.

    Args:
        path: JSON lines, whose first row decides what they are, or what `read_dialogs` reads; a folder or a glob is of
            dialogs.
        length: Length of a text; in characters by default.

    Returns:
        `{"kind", "rows", "dialogs", "counts": {field: {value: n}}, "lengths": {text: {"mean", "max"}}}`

    Raises:
        NescioError: The file is none of these, or empty.
    """
    found = _Found(length)
    kind, rows = _rows(path)
    for number, row in rows:
        try:
            found.take(kind, row, number)
        except (KeyError, TypeError, AttributeError) as error:
            raise NescioError(f"{path}:{number}: cannot be read as one of the {kind}; correct the line") from error
    return {
        "kind": kind,
        "rows": found.rows,
        "dialogs": len(found.dialogs),
        "counts": {name: dict(counter.most_common()) for name, counter in found.counts.items()},
        "lengths": {
            name: {"mean": round(sum_ / n, 1), "max": longest} for name, (n, sum_, longest) in found.sizes.items()
        },
    }


def _rows(path: Path) -> tuple[str, Iterator[tuple[int, Any]]]:
    """Return what the rows of a file, folder or glob are, and the rows with their lines."""
    dialogs = enumerate((dialog.as_row() for dialog in read_dialogs(path)), start=1)
    if not path.is_file() and not is_saved_dataset(path):
        return "dialogs", dialogs
    number, first = next(read_rows(path, stop), (0, None))
    if not number:
        raise NescioError(f"{path}: is empty; there is nothing to count")
    kind = _kind(path, number, first)
    return kind, dialogs if kind == "dialogs" and not _is_own(first) else read_rows(path, stop)


class _Found:
    """Counts so far."""

    def __init__(self, length: Length) -> None:
        self.rows, self._length = 0, length
        self.dialogs: set[str] = set()
        self.counts: dict[str, Counter[str]] = {}
        self.sizes: dict[str, tuple[int, int, int]] = {}  # texts, sum of their lengths, longest

    def take(self, kind: str, row: dict[str, Any], number: int) -> None:
        self.rows += 1
        self.dialogs.add(str(_dialog(kind, row, number)))
        for name in _COUNTED[kind]:
            if row[name] is None:  # accepted answers have no reason
                continue
            self.counts.setdefault(name, Counter())[str(row[name])] += 1
        for name, text in _texts(kind, row):
            texts, total, longest = self.sizes.get(name, (0, 0, 0))
            size = self._length(text)
            self.sizes[name] = texts + 1, total + size, max(longest, size)


def _dialog(kind: str, row: dict[str, Any], number: int) -> Any:
    """The id of the dialog that a row is or comes from."""
    if kind == "dialogs":
        return row.get("id", number)
    return row["sample_id"].rsplit(":", 2)[0] if kind == "candidates" else row["dialog_id"]


def _kind(path: Path, number: int, row: Any) -> str:
    fields = set(row) if isinstance(row, dict) else set()
    for kind, needed in {
        "pairs": {"prompt", "chosen", "rejected", "source", "twin"},
        "candidates": {"sample_id", "text", "accepted"},
        "samples": {"messages", "rejected", "label"},
        "dialogs": {"messages"},
    }.items():
        if needed <= fields:
            return kind
    if isinstance(row, dict) and format_of(row, map(FORMATS.get, FORMATS)):
        return "dialogs"
    raise NescioError(
        f"{path}:{number}: neither dialogs, samples, candidates nor pairs; `nescio data convert` reads more"
    )


def _is_own(row: Any) -> bool:
    """Whether the turns of a dialog are in nescio's own form, with a text in each."""
    turns = row.get("messages")
    return isinstance(turns, list) and all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in turns)


def _texts(kind: str, row: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if kind == "dialogs":
        return [("turn", message["content"]) for message in row["messages"]]
    if kind == "samples":
        return [("prompt", "\n".join(m["content"] for m in row["messages"])), ("rejected", row["rejected"])]
    return [(name, row[name]) for name in _TEXTS[kind]]
