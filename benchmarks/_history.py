"""The runs of a benchmark, one a line, and what got slower since the last on a machine of the same kind."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nescio.core.files import read_jsonl

KIND = ("cores", "cpu", "gpu")  # what two machines of one kind share
NOISE = 0.1  # a change below this share says nothing
_DIRECTIONS = {"per_second": -1, "seconds": 1, "_ms": 1, "mib": 1}  # endings of a measure's name; 1: more is worse
_SIZES = ("batch", "clients", "gigabytes", "together")  # numbers that were set, not measured

Run = Mapping[str, Any]


def commit() -> str:
    """Return the commit that is measured, `+` behind it if files differ; empty outside a git checkout."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return told.stdout.strip()


def record(path: Path, run: Run) -> None:
    """Append a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(run) + "\n")


def last_like(path: Path, run: Run) -> Run | None:
    """Return the last recorded run on a machine of the same kind."""
    kind = [run["machine"].get(name) for name in KIND]
    runs = [row for _, row in read_jsonl(path)] if path.exists() else []
    return next((row for row in reversed(runs) if [row["machine"].get(name) for name in KIND] == kind), None)


def slower(run: Run, before: Run) -> list[str]:
    """Return a line for each measure of a row that got worse by more than the noise.

    Rows are the same if their words, switches and sizes are, and so is their number among those alike.
    """
    then = dict(_rows(before))
    lines = []
    for key, row in _rows(run):
        for name, value in row.items():
            old = then.get(key, {}).get(name)
            worse = next((sign for ending, sign in _DIRECTIONS.items() if name.endswith(ending)), 0)
            if worse and isinstance(value, int | float) and isinstance(old, int | float) and old:
                change = value / old - 1
                if worse * change > NOISE:
                    words = ", ".join(str(word) if isinstance(word, str) else f"{size} {word}" for size, word in key[0])
                    lines.append(f"{words}: {name} {old:.4g} → {value:.4g} ({change:+.0%})")
    return lines


def _rows(run: Run) -> Iterator[tuple[Any, Run]]:
    seen = Counter[Any]()
    for row in run["rows"]:
        words = tuple(sorted((k, v) for k, v in row.items() if isinstance(v, str | bool) or k in _SIZES))
        yield (words, seen[words]), row
        seen[words] += 1
