"""OpenMP's threads: a pool for each thread that computes, of which only one should be there at a time.

libgomp, which PyTorch's wheels for Linux bring, gives each thread that computes in parallel a pool of its own. While
all pools together have more threads than the machine has processors, its workers sleep between two operations instead
of waiting awake. To wake them takes longer than most operations of a decode step. So whoever hands work to another
thread gives its own pool back first; the next parallel operation makes a new one.
"""

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

_HARD = 2  # omp_pause_hard of OpenMP 5.0
_IMPORTED_IN = os.getpid()


def release_threads() -> None:
    """Give back the pool of the calling thread. With another OpenMP than libgomp, nothing happens.

    Nothing happens in a forked process either: its pool has no threads behind it, and libgomp would wait for them.
    """
    if os.getpid() == _IMPORTED_IN and (pause := _pause()) is not None:
        pause(_HARD)


@cache
def _pause() -> Any | None:
    """Return libgomp's `omp_pause_resource_all`; None where torch brings no libgomp, or an old one."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    try:
        return ctypes.CDLL(str(found[0])).omp_pause_resource_all if found else None
    except (OSError, AttributeError):
        return None
