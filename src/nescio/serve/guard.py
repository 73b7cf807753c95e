"""Middleware of every request: a request id, a limit on the body, and JSON for errors that nobody handled."""

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nescio.serve.errors import ApiError

_LOG = logging.getLogger("nescio.serve")
_LENGTH = re.compile(r"[0-9]{1,18}")
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


class Guard:
    """Middleware around the whole application.

    Args:
        app: The application.
        max_body: Largest request body, in bytes.
    """

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self._app = app
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer errors that nobody else has handled."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started, ended, taken = uuid.uuid4().hex, False, False, 0
        # HEAD is GET without the body; FastAPI would refuse it.
        is_head = scope["method"] == "HEAD"
        scope = {**scope, "method": "GET"} if is_head else scope
        if scope["path"].endswith("/"):  # a redirect would lose the body of some clients, and https behind a proxy
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}

        async def send_named(message: Message) -> None:
            nonlocal started, ended
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            elif message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
                message = {**message, "body": b""} if is_head else message
            await send(message)

        async def receive_bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_body:
                raise self._too_large()
            return message

        try:
            length = Headers(scope=scope).get("content-length", "0")
            if not _LENGTH.fullmatch(length) or int(length) > self._max_body:
                raise self._too_large()
            await self._app(scope, receive_bounded, send_named)
        except HTTPException as error:
            await _answer(ApiError(error.status_code, error.detail, "body_too_large"))(scope, receive, send_named)
        except Exception as error:  # a bug; its text may quote a prompt, so only its type and place are logged
            _LOG.error("%s in %s, request %s", type(error).__name__, _place(error), request_id)
            if ended:  # by the application's own answer to a bug
                return
            if started:
                raise ConnectionAbortedError("an answer broke off") from None
            await _answer(ApiError(500, "the server failed; try again", "internal_error"))(scope, receive, send_named)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body is larger than {self._max_body} bytes; send less")


def _answer(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body.model_dump(), error.status, error.headers)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
