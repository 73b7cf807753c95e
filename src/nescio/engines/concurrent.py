"""Requests that are answered at once, a thread each, by an engine that waits for somebody else's program."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from nescio.core.callbacks import Progress
from nescio.engines.base import Answer, Request


def answer_all(
    requests: Sequence[Request], answer: Callable[[Request], Answer], most: int, progress: Progress | None
) -> list[Answer]:
    """Return the answers in the order of their requests; the first failure cancels what has not begun.

    Args:
        requests: What is asked.
        answer: Answers one request; called from several threads.
        most: Most requests at a time.
        progress: Called with (answers there, answers in all).
    """
    with ThreadPoolExecutor(max(1, min(most, len(requests)))) as pool:
        asked = [pool.submit(answer, request) for request in requests]
        try:
            for done, future in enumerate(as_completed(asked), start=1):
                future.result()
                if progress:
                    progress(done, len(asked))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in asked]
