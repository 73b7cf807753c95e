"""OpenAI's asynchronous client in a thread of its own, for callers that are not asynchronous."""

import asyncio
import threading
import weakref
from base64 import b64encode
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.engines.errors import EngineClosedError

_NO_KEY = "none"  # sent to a server without keys, because the client insists on one
_BACKOFF = 120.0  # seconds at most that the client waits before it sends a request again
_CLOSING = 1.0  # seconds for connections to be closed
_Result = TypeVar("_Result")


class EndpointClient:
    """The client of one endpoint, and the thread with its event loop.

    All requests share the thread: one for each would fight with the others, and with whoever reads the answers, over
    the interpreter. aiohttp carries them; it reads chunks in C.

    Args:
        openai: The client's module.
        base_url: Address of the API, with a user and a password or without; None is OpenAI's own.
        key: The key; None for a server without keys.
        timeout: Seconds to wait for an answer.
        retries: Number of repeats.

    Attributes:
        host: Of the address.
        no_http: The error of an answer that is no HTTP, which OpenAI's client does not know.

    Raises:
        NescioError: aiohttp is not installed, or the environment names a proxy that it can't use.
    """

    def __init__(self, openai: Any, base_url: str | None, key: str | None, timeout: float, retries: int) -> None:
        aiohttp = require("aiohttp", "openai", "an endpoint")
        url, login = _without_login(base_url)
        # Without a key none is sent: a server without keys may refuse one that it does not know, as nescio's does. The
        # client wants a key anyway and lets it be omitted per request only.
        self._headers = {"Authorization": login or openai.Omit()} if login or key is None else {}
        self._streams = openai.AsyncStream[object]
        self._longest = (retries + 1) * (2 * timeout + _BACKOFF)
        self._client: Any = openai.AsyncOpenAI(
            api_key=key or _NO_KEY, base_url=url, timeout=timeout, max_retries=retries,
            http_client=openai.DefaultAioHttpClient(),
        )  # fmt: skip
        self.host: str = self._client.base_url.host
        self.no_http = aiohttp.ClientError
        proxies, scheme = getproxies(), self._client.base_url.scheme
        name = scheme if scheme in proxies else "all"
        if proxies.get(name, "").startswith("socks") and not proxy_bypass(self.host):
            raise NescioError(f"{name}_proxy: no SOCKS proxy can be used; name one of http://, or unset it")
        self._loop, self._lock = asyncio.new_event_loop(), threading.Lock()
        self._thread = threading.Thread(target=_run, args=(self._loop, self._client), name="endpoint", daemon=True)
        self._thread.start()
        # Also for whoever drops an engine without closing it, or ends the process.
        self._end = weakref.finalize(self, _stop, self._loop, self._thread)

    @property
    def closed(self) -> bool:
        """Whether the connections were closed."""
        return not self._end.alive

    def start(self, work: Coroutine[Any, Any, _Result]) -> "Future[_Result]":
        """Start work in the thread and return at once. Whoever cancels it closes its connection.

        Raises:
            EngineClosedError: The connections were closed, or belong to the process that this one was forked from.
        """
        with self._lock:  # what is accepted stands in the loop before its end
            if not self.closed and self._thread.is_alive():
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        how = "is closed; load it again" if self.closed else "was opened in another process; open it in this one"
        raise EngineClosedError(f"the engine {how}")

    async def post(self, path: str, body: dict[str, Any], *, streamed: bool) -> Any:
        """Send a request and return the answer's plain JSON, or the open stream.

        The client's own models of it cost more than all else that is done with a chunk.

        Raises:
            TimeoutError: The server takes the request in too slowly, for which aiohttp has no time-out.
            openai.APIError: What the client raises; see `timed_out`.
            aiohttp.ClientError: `no_http`.
        """
        async with asyncio.timeout(self._longest):
            return await self._client.post(
                path, cast_to=object, body=body, options={"headers": self._headers}, stream=streamed,
                stream_cls=self._streams,
            )  # fmt: skip

    def close(self) -> None:
        """Cancel what runs, and close the connections."""
        with self._lock:
            self._end()


def timed_out(error: BaseException | None) -> bool:
    """Return whether an error really is a time-out. The client reports a cut connection as one, too, over aiohttp."""
    while error is not None and not isinstance(error, TimeoutError):
        error = error.__cause__
    return error is not None


def _run(loop: asyncio.AbstractEventLoop, client: Any) -> None:
    loop.run_forever()
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(client.close())
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():  # it may be the one that drops the engine
        thread.join(_CLOSING)


def _without_login(url: str | None) -> tuple[str | None, str | None]:
    """Return an address without `user:password@`, and the header that says the same: aiohttp takes one of the two."""
    parts = urlsplit(url or "")
    if not parts.username:
        return url, None
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    where = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=where)), f"Basic {b64encode(login.encode()).decode()}"
