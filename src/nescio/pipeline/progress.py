"""Progress of a run: a bar for each stage on a terminal, a line now and then where the output is a file."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nescio.core.callbacks import Tick

_EVERY = 30.0
"""Seconds between two lines where the output is no terminal."""


def standard() -> Console:
    """Return standard output; 120 columns wide where it is a file."""
    return Console(width=None if sys.stdout.isatty() else 120)


class Terminal:
    """Shows the progress of stages.

    Args:
        console: Receives bars if it is a terminal, else a line a stage, and one every 30 seconds with the time left.
        clock: Returns seconds, counted from any moment.
        poll: Seconds between two looks at the clock.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic, poll: float = 1.0) -> None:
        self._console, self._clock, self._poll = console, clock, poll

    @contextmanager
    def stage(self, name: str) -> Iterator[Tick]:
        """Open a stage; the tick takes done, total and a word."""
        columns = (
            TextColumn("{task.fields[stage]:<11}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}"),
        )  # fmt: skip
        with Progress(*columns, console=self._console) as bar, self._lines(name) as heard:
            task = bar.add_task("", total=None, stage=name)

            def tick(done: int, total: int, word: str) -> None:
                bar.update(task, completed=done, total=total, description=word)
                heard(done, total, word)

            yield tick
            bar.update(task, completed=bar.tasks[0].total or 1, total=bar.tasks[0].total or 1)

    @contextmanager
    def _lines(self, name: str) -> Iterator[Tick]:
        """Print a line every 30 seconds, also while nothing ticks; none on a terminal."""
        started = self._clock()
        printed, state, ended = started, (0, 0, ""), threading.Event()
        since = (started, 0)  # when the part that now counts began, and at which number

        def hear(done: int, total: int, word: str) -> None:
            nonlocal state, since
            if done < state[0] or total != state[1]:
                since = (self._clock(), done)  # what an earlier part took, or an earlier attempt did, says nothing
            state = done, total, word

        def watch() -> None:
            nonlocal printed
            while not ended.wait(self._poll):
                if self._clock() - printed >= _EVERY:
                    printed = self._clock()
                    began, first = since
                    rate = (state[0] - first) / (printed - began) if printed > began else 0.0
                    self.note(_line(name, printed - started, rate, *state))

        if self._console.is_terminal:
            yield hear
            return
        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield hear
        finally:
            ended.set()
            watcher.join()

    def skipped(self, name: str) -> None:
        """Report a stage that was done before."""
        self._console.print(f"{name:<11} done before")

    def note(self, text: str) -> None:
        """Print a line worth reading."""
        self._console.print(text, highlight=False, markup=False, emoji=False)


def _line(name: str, seconds: float, rate: float, done: int, total: int, word: str) -> str:
    """Say how far a stage is, and the time left if the rest of what is counted goes as fast."""
    left = f", about {_time((total - done) / rate)} left" if rate else ""
    return f"{name:<11} {f'{done}/{total} ' if total else ''}after {_time(seconds)}{left}  {word}".rstrip()


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
