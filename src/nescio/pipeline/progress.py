"""Progress on a terminal: a bar with an estimate a stage. Knows nothing of what the stages do."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def standard() -> Console:
    """Standard output; 120 columns wide where it is a file."""
    return Console(width=None if sys.stdout.isatty() else 120)


class Terminal:
    """Bars on a terminal; one line a stage where the output is a file."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int, str], None]]:
        """Open a stage; the tick is called with done, total and a word."""
        columns = (
            TextColumn("{task.fields[stage]:<11}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}"),
        )  # fmt: skip
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task("", total=None, stage=name)

            def tick(done: int, total: int, word: str) -> None:
                bar.update(task, completed=done, total=total, description=word)

            yield tick
            bar.update(task, completed=bar.tasks[0].total or 1, total=bar.tasks[0].total or 1)

    def skipped(self, name: str) -> None:
        """A stage that was done before."""
        self._console.print(f"{name:<11} done before")

    def note(self, text: str) -> None:
        """A line worth reading."""
        self._console.print(text, highlight=False, markup=False)
