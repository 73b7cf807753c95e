"""Which pairs are taken of those that could be made: by source, in equal numbers, and few that begin alike."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nescio.core.files import read_jsonl, write_jsonl
from nescio.core.text import opening
from nescio.data.pairs import begins_unit


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pairs are selected, to compare sources (paper, section 4: 2,765 of each).

    Attributes:
        sources: Sources to select from; None: all.
        balance: Select as many pairs of each source as the source with the fewest has: of the selected ones, or of
            those that are named.
        per_source: Most pairs of each source; a pair and what stands beside it count as one.
        per_beginning: Most pairs whose clean answers begin with the same four words: what the pairs teach, the model
            says. The first ones stay.
        seed: Seed of the draw.
    """

    sources: Sequence[str] | None = None
    balance: bool | Sequence[str] = False
    per_source: int | None = None
    per_beginning: int | None = None
    seed: int = 0


def write_selected(pairs: Iterable[dict[str, Any]], path: Path, selection: Selection, counts: Counter[str]) -> None:
    """Write the selected pairs, in their order; at most one number per pair is held in memory.

    Args:
        pairs: Pairs, those of a unit next to each other.
        path: The pair file.
        selection: Which pairs are selected.
        counts: `pairs` becomes the number selected, `canned` the number left out for their beginnings, and
            `unselected` the number of others left out.
    """
    every = path.with_suffix(".every")
    by_source: dict[str, list[int]] = {}
    beginnings = Counter[str]()
    canned: set[int] = set()

    def counted() -> Iterator[dict[str, Any]]:
        unit = -1
        for pair in pairs:
            unit += begins_unit(pair)
            own = by_source.setdefault(pair["source"], [])
            if begins_unit(pair) and (selection.sources is None or pair["source"] in selection.sources):
                beginning = opening(pair["chosen"])
                beginnings[beginning] += 1
                if selection.per_beginning is not None and beginnings[beginning] > selection.per_beginning:
                    canned.add(unit)
            if unit in canned:
                counts["canned"] += 1
            elif not own or own[-1] != unit:
                own.append(unit)
            yield pair | {"unit": unit}

    before = counts["canned"]
    written = write_jsonl(every, counted())
    selected = _drawn(by_source, selection)
    rows = (row for _, row in read_jsonl(every))
    left = write_jsonl(path, ({n: v for n, v in row.items() if n != "unit"} for row in rows if row["unit"] in selected))
    every.unlink()
    counts["pairs"] -= written - left
    counts["unselected"] += written - left - (counts["canned"] - before)


def _drawn(by_source: dict[str, list[int]], selection: Selection) -> set[int]:
    """Return the selected numbers: for each source, the first of a seeded order."""
    wanted = {
        source: own for source, own in by_source.items()
        if own and (selection.sources is None or source in selection.sources)
    }  # fmt: skip
    balanced = wanted if selection.balance is True else selection.balance or ()
    limits = [len(own) for source in balanced if (own := by_source.get(source))]
    limits += [] if selection.per_source is None else [selection.per_source]
    selected: set[int] = set()
    for source, own in wanted.items():
        count = min([len(own), *limits])
        selected.update(random.Random(f"{selection.seed}-{source}").sample(own, count))
    return selected
