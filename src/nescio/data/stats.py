"""What is in a file of the way from dialogs to pairs: how many, how long, of what. Knows the files' rows; no models."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nescio.errors import NescioError
from nescio.files import read_jsonl

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
        path: JSON lines; the first row tells what it is.
        length: Of a text; by default in characters.

    Returns:
        `{"kind", "rows", "dialogs", "counts": {field: {value: n}}, "lengths": {text: {"mean", "max"}}}`

    Raises:
        NescioError: It is none of these, or empty.
    """
    kind, rows = "", 0
    dialogs: set[str] = set()
    counts: dict[str, Counter[str]] = {}
    sums, longest = Counter[str](), Counter[str]()
    seen = Counter[str]()
    for number, row in read_jsonl(path):
        kind = kind or _kind(path, number, row)
        rows += 1
        dialogs.add(row.get("dialog_id") or row.get("id") or row["sample_id"].rsplit(":", 2)[0])
        for name in _COUNTED[kind]:
            counts.setdefault(name, Counter())[str(row[name])] += 1
        for name, text in _texts(kind, row):
            size = length(text)
            seen[name] += 1
            sums[name] += size
            longest[name] = max(longest[name], size)
    if not rows:
        raise NescioError(f"{path}: is empty; there is nothing to count")
    return {
        "kind": kind,
        "rows": rows,
        "dialogs": len(dialogs),
        "counts": {name: dict(counter.most_common()) for name, counter in counts.items()},
        "lengths": {name: {"mean": round(sums[name] / seen[name], 1), "max": longest[name]} for name in _TEXTS[kind]},
    }


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
    raise NescioError(
        f"{path}:{number}: neither dialogs, samples, candidates nor pairs; `nescio data convert` reads more"
    )


def _texts(kind: str, row: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if kind == "dialogs":
        return [("turn", message["content"]) for message in row["messages"]]
    if kind == "samples":
        return [("prompt", "\n".join(m["content"] for m in row["messages"])), ("rejected", row["rejected"])]
    return [(name, row[name]) for name in _TEXTS[kind]]
