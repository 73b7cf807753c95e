"""Two runs compared: their best rows, and whether the difference is more than chance."""

import math
from dataclasses import dataclass
from pathlib import Path

from nescio.core.wilson import Interval
from nescio.evaluation.statistics import paired_bootstrap, widened
from nescio.report import table
from nescio.report.answers import Answer, read_answers, sample_keys
from nescio.report.table import Row
from nescio.report.verdict import chosen_row


@dataclass(frozen=True, slots=True)
class Comparison:
    """This run compared with another.

    Attributes:
        name: Name of the other run.
        rows: This run's row and the other's: each run's best, or its closest if none is best.
        change: 95 % interval of the difference in personal data per answer, this run minus the other; None where the
            two did not answer the same samples, or none at all.
    """

    name: str
    rows: tuple[Row, Row]
    change: Interval | None


def compare(run: Path, other: Path) -> Comparison:
    """Compare a run with another.

    Raises:
        NescioError: A file of either run is missing or damaged.
    """
    rows = (_shown(table.read(run)), _shown(table.read(other)))
    ours, theirs = (read_answers(folder, row) for folder, row in zip((run, other), rows, strict=True))
    change = None
    if ours and sample_keys(ours) == sample_keys(theirs):
        dialogs = [answer["dialog_id"] for answer in ours]
        counted = paired_bootstrap(_counts(ours), _counts(theirs), dialogs, seed=0)
        change = widened(counted, dialogs, least=-math.inf, most=math.inf)
    return Comparison(other.resolve().name, rows, change)


def _counts(answers: list[Answer]) -> list[float]:
    return [float(len(answer["spans"])) for answer in answers]


def _shown(rows: list[Row]) -> Row:
    return chosen_row(rows) or rows[0]
