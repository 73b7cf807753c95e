"""Progress where the output is a file: a line every 30 seconds, with how much is done and the time left."""

import threading
import time
from io import StringIO

import pytest
from rich.console import Console

from nescio.pipeline.progress import Terminal


class Clock:
    """Stands still; `run_to` sets it and waits until it was looked at."""

    def __init__(self) -> None:
        self.now, self.looks = 100.0, 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now

    def run_to(self, now: float) -> None:
        self.now, seen = now, self.looks
        deadline = time.monotonic() + 5
        while self.looks < seen + 3 and time.monotonic() < deadline:
            time.sleep(0.002)


def shown(terminal: bool, *steps: tuple[float, tuple[int, int] | None]) -> list[str]:
    """The lines printed in a stage; each step is the seconds since its start, and what ticks before."""
    output, clock = StringIO(), Clock()
    reporter = Terminal(Console(file=output, width=120, force_terminal=terminal), clock, poll=0.001)
    with reporter.stage("train") as tick:
        for seconds, done in steps:
            if done is not None:
                tick(*done, "9 pairs")
            if not terminal:
                clock.run_to(100.0 + seconds)
        running = output.getvalue()
    return [line.rstrip() for line in running.splitlines() if "after" in line]


def test_a_line_every_thirty_seconds_even_where_nothing_ticks() -> None:
    lines = shown(
        False, (0, (0, 40)), (10, (2, 40)), (29, (5, 40)), (30, (10, 40)), (59, (12, 40)), (61, (20, 40)), (95, None),
        (100, None),
    )  # fmt: skip
    assert lines == [
        "train       10/40 after 0:00:30, about 0:01:30 left  9 pairs",
        "train       20/40 after 0:01:01, about 0:01:01 left  9 pairs",
        "train       20/40 after 0:01:35, about 0:01:35 left  9 pairs",
    ]


@pytest.mark.parametrize("before", [(0, 2), (9, 40)], ids=["an earlier part", "the same part, again from its start"])
def test_the_time_left_is_that_of_what_is_counted_now(before: tuple[int, int]) -> None:
    lines = shown(False, (20, before), (25, (0, 40)), (55, (10, 40)), (85, None))
    assert [line.partition("after ")[2] for line in lines[-1:]] == ["0:01:25, about 0:03:15 left  9 pairs"]


def test_the_time_left_counts_nothing_of_an_earlier_attempt() -> None:
    assert shown(False, (1, (30, 40)), (41, (32, 40)))[0].endswith("after 0:00:41, about 0:02:44 left  9 pairs")


def test_a_stage_that_never_ticks_is_alive() -> None:
    assert shown(False, (31, None), (3600, (0, 40))) == [
        "train       after 0:00:31", "train       0/40 after 1:00:00  9 pairs"
    ]  # fmt: skip


def test_a_terminal_has_its_bar() -> None:
    assert shown(True, (40, (10, 40)), (80, (20, 40))) == []


def test_a_stage_that_fails_leaves_no_thread() -> None:
    with pytest.raises(ZeroDivisionError), Terminal(Console(file=StringIO())).stage("train"):
        raise ZeroDivisionError
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_note_is_printed_as_it_is() -> None:
    output = StringIO()
    Terminal(Console(file=output, width=120)).note("a.jsonl:100: [bold] is left out")
    assert output.getvalue() == "a.jsonl:100: [bold] is left out\n"
