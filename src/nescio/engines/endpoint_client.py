"""The HTTP client of one endpoint, in a thread of its own, for callers that are not asynchronous."""

import asyncio
import io
import json
import os
import random
import ssl
import threading
import time
import weakref
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import nescio
from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.engines.errors import EngineClosedError

_OPENAI = "https://api.openai.com/v1"
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds before the first repeat, and before any
LONGEST_ASKED = 120.0
"""Seconds that a server may ask to be left alone."""

_KEPT = 4.0  # seconds that an idle connection is used again: uvicorn, and vLLM with it, closes it after 5
_ERROR_BYTES = 2**16  # of a refusal's body that are read
_BODY_BYTES = 2**20  # up to which aiohttp takes a body in one piece
_DAY = 86_400.0
_CLOSING = 1.0  # seconds for connections to be closed
_Result = TypeVar("_Result")


class RefusedError(Exception):
    """A server answers with an error.

    Attributes:
        status: HTTP status.
        body: The error in OpenAI's form, a mapping, or whatever else was answered.
        retry_after: Seconds that the server asks to be left alone; None: it does not say.
    """

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = _retry_after(headers)
        self._should_retry = headers.get("x-should-retry")
        try:
            read = json.loads(body)
            self.body: Any = read.get("error") or read if isinstance(read, dict) else read
        except (ValueError, RecursionError):
            self.body = body.decode(errors="replace")

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered later."""
        if (self.retry_after or 0.0) > LONGEST_ASKED or self._should_retry == "false":
            return False
        return self._should_retry == "true" or self.status in (408, 409, 429) or self.status >= 500

    def field(self, name: str) -> Any:
        """Return a field of the error; None if it has none."""
        return self.body.get(name) if isinstance(self.body, dict) else None


class EndpointClient:
    """The client of one endpoint, and the thread with its event loop.

    All requests share the thread: one for each would fight with the others, and with whoever reads the answers, over
    the interpreter. aiohttp alone, since OpenAI's client on top of it is a good part of what a proxied answer costs.

    Args:
        base_url: Address of the API, with a user and a password or without; None is OpenAI's own.
        key: The key; None for a server without keys, which may refuse one that it does not know.
        timeout: Seconds to wait for an answer.
        retries: Number of repeats after HTTP 408, 409, 429, 5xx, a time-out or a cut connection.
        longest_asked: Most seconds that the server may ask to be left alone; if it asks for more, there is no repeat.

    Attributes:
        host: Host of the address.

    Raises:
        NescioError: aiohttp is not installed, the address is none, or the environment names a proxy or certificates
            that can't be used.
    """

    def __init__(
        self,
        base_url: str | None,
        key: str | None,
        timeout: float,
        retries: int,
        longest_asked: float = LONGEST_ASKED,
    ) -> None:
        aiohttp = require("aiohttp", "openai", "an endpoint")
        self._url, login = _without_login(base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI)
        self.host = self._url.hostname or ""
        self._timeout, self._retries, self._aiohttp = timeout, retries, aiohttp
        self._longest_asked = longest_asked
        headers = {
            "Content-Type": "application/json", "User-Agent": f"nescio/{nescio.__version__}",
            "Authorization": login or (f"Bearer {key}" if key else ""),
            "OpenAI-Organization": os.environ.get("OPENAI_ORG_ID", ""),
            "OpenAI-Project": os.environ.get("OPENAI_PROJECT_ID", ""),
        }  # fmt: skip
        proxy, certificates = _proxy(self._url), _certificates() if self._url.scheme == "https" else True

        def opened() -> Any:
            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT, ssl=certificates),
                headers={name: value.strip() for name, value in headers.items() if value.strip()},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
                cookie_jar=aiohttp.DummyCookieJar(), proxy=proxy,
            )  # fmt: skip

        self._loop, self._lock, session = asyncio.new_event_loop(), threading.Lock(), Future[Any]()
        self._thread = threading.Thread(target=_run, args=(self._loop, opened, session), name="endpoint", daemon=True)
        self._thread.start()
        self._session = session.result()
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

    async def post(self, path: str, body: Mapping[str, Any], *, streamed: bool) -> Any:
        """Send a request, again where that may help; return the answer's bytes, or the open response of a stream.

        Raises:
            RefusedError: The server answers with an error.
            TimeoutError: It does not answer in time.
            ConnectionError: It can't be reached, is not trusted, cuts the answer off, or does not talk HTTP.
        """
        url = urlunsplit(self._url._replace(path=self._url.path.rstrip("/") + path))
        written = json.dumps(body).encode()
        failed: Exception = TimeoutError()
        for attempt in range(self._retries + 1):
            if attempt:
                wait = min(_FIRST_WAIT * 2.0 ** (attempt - 1), _LONGEST_WAIT) * random.uniform(0.75, 1.0)
                asked = failed.retry_after if isinstance(failed, RefusedError) else None
                await asyncio.sleep(asked or wait)
            data = written if len(written) <= _BODY_BYTES else io.BytesIO(written)
            try:
                # aiohttp's own time-outs are for the next byte, and for none of those that are sent.
                async with asyncio.timeout(2 * self._timeout):
                    # Where a server sends prompts on to is not where the user sends them.
                    response = await self._session.post(url, data=data, allow_redirects=False)
                    if response.status < 300:
                        return response if streamed else await response.read()
                    failed = RefusedError(response.status, await self._error_body(response), response.headers)
                if not failed.may_pass or (failed.retry_after or 0.0) > self._longest_asked:
                    break
            except TimeoutError:
                failed = TimeoutError()
            except self._aiohttp.ClientSSLError:
                raise ConnectionError(
                    "its certificate is not trusted; name the file of its authority in SSL_CERT_FILE"
                ) from None
            except self._aiohttp.ClientError:
                failed = ConnectionError("cannot be reached; is base_url right, and the server up?")
        raise failed

    async def _error_body(self, response: Any) -> bytes:
        """Return the body of a refusal, as far as it came."""
        received = b""
        with suppress(self._aiohttp.ClientError, TimeoutError):
            async with response:
                async for block in response.content.iter_any():
                    received += block
                    if len(received) > _ERROR_BYTES:
                        break
        return received

    def close(self) -> None:
        """Cancel what runs, and close the connections."""
        with self._lock:
            self._end()


def _run(loop: asyncio.AbstractEventLoop, opened: Callable[[], Any], ready: "Future[Any]") -> None:
    async def session() -> Any:
        return opened()  # it wants to be made in its loop

    try:
        client = loop.run_until_complete(session())
    except BaseException as error:
        ready.set_exception(error)
        loop.close()
        return
    ready.set_result(client)
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


def _without_login(url: str) -> tuple[Any, str | None]:
    """Return the parts of an address without `user:password@`, and the header that says the same."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port, or of brackets
        is_address = False
    if not is_address:  # which is not repeated: it may hold a password
        raise NescioError("base_url: must read http://host:port/v1 or https://host/v1")
    if not parts.username:
        return parts, None
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    where = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=where), f"Basic {b64encode(login.encode()).decode()}"


def _proxy(url: Any) -> str | None:
    """Return the address of the proxy that the environment names for an address."""
    proxies = getproxies()
    name = url.scheme if url.scheme in proxies else "all"
    proxy = proxies.get(name, "")
    if not proxy or proxy_bypass(url.netloc):
        return None
    if proxy.startswith("socks"):
        raise NescioError(f"{name}_proxy: no SOCKS proxy can be used; name one of http://, or unset it")
    return proxy if "://" in proxy else f"http://{proxy}"


def _certificates() -> ssl.SSLContext:
    file, folder = os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None
    if file or folder:  # these, and no others
        try:
            return ssl.create_default_context(cafile=file, capath=folder)
        except OSError as error:
            raise NescioError(f"SSL_CERT_FILE: {file} is not a certificate file; correct it, or unset it") from error
    context = ssl.create_default_context()  # of the machine, which some Pythons lack
    context.load_verify_locations(require("certifi", "openai", "an endpoint").where())
    return context


def _retry_after(headers: Mapping[str, str]) -> float | None:
    asked = headers.get("retry-after", "")
    with suppress(ValueError, TypeError, OverflowError):
        if milliseconds := headers.get("retry-after-ms"):
            seconds = float(milliseconds) / 1000
        elif date := parsedate_tz(asked):
            seconds = mktime_tz(date) - time.time()
        else:
            seconds = float(asked)
        return min(seconds, _DAY) if seconds > 0 else None  # NaN is not, either
    return None
