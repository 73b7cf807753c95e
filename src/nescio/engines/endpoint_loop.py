"""OpenAI's asynchronous client in a thread of its own, for callers that are not asynchronous."""

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from nescio.core.extras import require
from nescio.engines.errors import EngineClosedError

_CLOSING = 5.0  # seconds for connections to be closed
_Result = TypeVar("_Result")


class EndpointLoop:
    """The client of one endpoint, and the thread with its event loop.

    All requests share the thread: one for each would fight with the others, and with whoever reads the answers, over
    the interpreter. aiohttp carries them; it reads chunks in C.

    Args:
        openai: The client's module.
        options: Keyword arguments of the client.

    Attributes:
        client: The client; only coroutines that `start` is given may ask it.
    """

    def __init__(self, openai: Any, **options: Any) -> None:
        require("aiohttp", "openai", "an endpoint")
        self.client: Any = openai.AsyncOpenAI(http_client=openai.DefaultAioHttpClient(), **options)
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run, args=(self._loop, self.client), name="endpoint", daemon=True)
        thread.start()
        # Also for whoever drops an engine without closing it, or ends the process.
        self._end = weakref.finalize(self, _close, self._loop, thread)

    @property
    def closed(self) -> bool:
        """Whether the connections were closed."""
        return not self._end.alive

    def start(self, work: Coroutine[Any, Any, _Result]) -> "Future[_Result]":
        """Start work and return at once. Whoever cancels it closes its connection.

        Raises:
            EngineClosedError: The connections were closed.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise EngineClosedError("the engine is closed; load it again") from error

    def close(self) -> None:
        """Cancel what runs, and close the connections."""
        self._end()


def _run(loop: asyncio.AbstractEventLoop, client: Any) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(client.close())
    loop.close()


def _close(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():  # it may be the one that drops the engine
        thread.join(_CLOSING)
