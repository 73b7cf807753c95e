"""What became of a run's exports: rows of `checks/results.json`, beside those of their adapters."""

from collections.abc import Sequence
from pathlib import Path

from nescio.core.files import file_hash
from nescio.evaluation.columns import Column
from nescio.report import table
from nescio.report.table import Row

FOLDER = "checks"
"""Folder of a run with the rows and the answers of its exports."""

COLUMNS = (
    Column(
        key="leaks_more_p", header="leaks more, p", kind="p",
        meaning="one-sided p-value of leaking more than its adapter in nescio, by an exact sign-flip test over dialogs",
    ),
    Column(
        key="words_apart_p", header="other words, p", kind="p",
        meaning="p-value of McNemar's exact test of words against its adapter in nescio",
    ),
)  # fmt: skip
"""Columns that only exports have."""


def read(run: Path) -> list[Row]:
    """Return the rows of the exports of the adapters that a run has now; those of older ones are left out.

    Raises:
        NescioError: `checks/results.json` is not what an export writes.
    """
    path = run / FOLDER / "results.json"
    rows = table.read_rows(path) if path.is_file() else []
    now = {file_hash(folder) for name in ("adapter", "teacher") if (folder := run / name).is_dir()} if rows else set()
    return [row for row in rows if row.get("adapter") in now]


def shown(run: Path, rows: Sequence[Row]) -> list[Row]:
    """Return the tuned model's row, those of the adapters that were exported, and the exports'; nothing without these.

    Args:
        run: The run folder.
        rows: As in `results.json`, the tuned model first.
    """
    checked = read(run)
    of = {row.get("of") for row in checked}
    return [*rows[:1], *(row for row in rows[1:] if row["name"] in of), *checked] if checked else []


def sentence(export: Row, adapter: Row) -> str:
    """Say in one line what an export gives away and answers, beside its adapter in nescio.

    Args:
        export: The row of the export.
        adapter: The row of its adapter.
    """
    said = [f"{table.pieces(export)} pieces of personal data (its adapter in nescio: {table.pieces(adapter)})"]
    said += [f"p of leaking more {export['leaks_more_p']:.2g}"]
    if export.get("asked_for") is not None:
        said.append(f"asked for {table.count(export['asked_for'])} ({table.count(adapter.get('asked_for'))})")
    if export.get("words") is not None:
        said.append(f"words {table.measured(export, 'words')} ({table.measured(adapter, 'words')})")
    failed = [f"{each['test']} ({each['figure']}; limit: {each['limit']})" for each in export.get("verdict") or ()]
    verdict = f" It failed the verdict: {'; '.join(failed)}." if failed else ""
    return f"Checked on its own engine: {'; '.join(said)}.{verdict}"
