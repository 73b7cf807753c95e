"""A contender in a process of its own: it works when it is told to and says what came of it.

So contenders can't share memory, threads or allocators, and can still take turns. Knows lines of JSON; nothing of what
is measured.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]


class Contender:
    """Starts the script that runs now once more, with these arguments, and waits until it is ready."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would fill and stop it
        self._process = subprocess.Popen(
            [sys.executable, sys.argv[0], "--contender", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
        )  # fmt: skip
        self._answer()

    def turn(self, asked: Any) -> Row:
        """Have it do one piece of work; what it tells of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Let it go."""
        self._process.communicate()

    def _answer(self) -> Row:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                found: Row = json.loads(line)
                return found
        self._process.wait()
        self._said.seek(0)
        sys.exit(f"a contender failed ({self._process.returncode}):\n{self._said.read()[-3000:]}")


def serve(work: Callable[[Any], Row]) -> None:
    """Be a contender: ready now, then a piece of work for each line that comes in."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line))), flush=True)
