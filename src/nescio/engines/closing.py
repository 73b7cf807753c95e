"""Closing of whatever owns a decode thread when the interpreter exits."""

import atexit
import os
import threading
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet


class Closable(Protocol):
    """An owner of a daemon thread."""

    def close(self) -> None:
        """End the thread; closing twice is harmless."""


DECODE_THREAD = "nescio-decode"
"""Name of the threads that are waited for when the interpreter exits."""

_OPEN: WeakSet[Closable] = WeakSet()
os.register_at_fork(after_in_child=_OPEN.clear)  # a forked process has no threads to end


def close_at_exit(owner: Closable) -> None:
    """Close the owner of a daemon thread when the interpreter exits.

    A daemon thread that is still inside PyTorch while the interpreter shuts down aborts the process.
    """
    _OPEN.add(owner)


@atexit.register
def _close_all() -> None:
    for owner in list(_OPEN):
        with suppress(Exception):  # the others have to be closed all the same
            owner.close()
    # An owner whose last reference was the thread's is gone by now, while the thread may still be freeing its tensors.
    for thread in threading.enumerate():
        if thread.name == DECODE_THREAD:
            thread.join()
