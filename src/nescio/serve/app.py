"""The HTTP application: routes, and the path of a request from its body to JSON or events."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

import nescio
from nescio.serve import playground
from nescio.serve.admission import Admitted, admit_chat, admit_completion, admit_response
from nescio.serve.answering import Answering
from nescio.serve.errors import ApiError, ErrorBody, of_validation
from nescio.serve.gateway import Gateway
from nescio.serve.guard import Guard
from nescio.serve.metrics import RequestRecord
from nescio.serve.openai_api.converters import ChatConverter, CompletionConverter, Converter, joined
from nescio.serve.openai_api.part import Part
from nescio.serve.openai_api.request_bodies import ChatRequest, CompletionRequest
from nescio.serve.openai_api.response_bodies import ChatCompletion, Completion, Model, ModelList, PolicyView
from nescio.serve.openai_api.responses_bodies import ResponseBody, ResponseEvent
from nescio.serve.openai_api.responses_converter import ResponsesConverter
from nescio.serve.openai_api.responses_request import ResponsesRequest
from nescio.serve.policy import Caller, Policy
from nescio.serve.served import Served
from nescio.serve.trial import Trial, Tried, tried_policy

_Result = TypeVar("_Result")
_Body = TypeVar("_Body", ChatRequest, CompletionRequest, ResponsesRequest)
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request is wrong, not allowed, or over a limit"},
    "5XX": {"model": ErrorBody, "description": "The server failed, or withholds an answer that it could not check"},
}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_KEYS = ("Authorization", "api-key")
_bearer = HTTPBearer(auto_error=False, description="An API key. Without one, the policy named `default` applies.")


def create_app(gateway: Gateway, max_body: int, cors_origins: Sequence[str] = ()) -> ASGIApp:
    """Create the application of a server.

    Args:
        gateway: State of the server.
        max_body: Largest request body, in bytes.
        cors_origins: Origins whose pages may call the server from a browser; `*` is any.
    """
    app = FastAPI(
        title="nescio",
        version=nescio.__version__,
        summary="OpenAI's API with classifier-free guidance and adapters by API key",
        docs_url=None,  # these pages load scripts from other servers
        redoc_url=None,
    )
    app.add_exception_handler(ApiError, _error_response)
    app.add_exception_handler(HTTPException, _error_response)
    app.add_exception_handler(RequestValidationError, _error_response)
    app.add_exception_handler(Exception, _bug_response)
    _add_answers(app, gateway)
    _add_views(app, gateway)
    guarded = Guard(app, max_body)
    if not cors_origins:
        return guarded
    return CORSMiddleware(  # outside of the guard, so that a page can read its errors too
        guarded,
        allow_origins=cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],  # OpenAI's client for JavaScript sends headers of its own (x-stainless-…)
        expose_headers=["X-Request-Id", "Retry-After"],
    )


def _caller_of(gateway: Gateway) -> Callable[..., Coroutine[Any, Any, Caller]]:
    async def caller(
        http: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        policies, key = gateway.policies, credentials.credentials if credentials else None
        # A key that is sent another way must not end in the policy of those who have none.
        others = [name for name in _KEYS if http.headers.get(name, "").strip().lower() not in ("", "bearer")]
        if key is None and others and not policies.keyless:
            raise ApiError(401, f"no key is read from {others[0]}; send Authorization: Bearer KEY", "invalid_api_key")
        return policies.caller(key)

    return caller


def _add_answers(app: FastAPI, gateway: Gateway) -> None:
    caller_of = _caller_of(gateway)

    @app.post(
        "/v1/chat/completions",
        responses=_ERRORS | {200: {"model": ChatCompletion, "content": _STREAM}},
    )
    async def chat_completions(
        body: ChatRequest, caller: Annotated[Caller, Depends(caller_of)], http: Request
    ) -> Response:
        """Answer a conversation."""
        return await _respond(gateway, http, body, caller, admit_chat, ChatConverter, "chat")

    @app.post(
        "/v1/responses",
        responses=_ERRORS | {200: {"model": ResponseBody, "content": _STREAM}},
    )
    async def responses(
        body: ResponsesRequest, caller: Annotated[Caller, Depends(caller_of)], http: Request
    ) -> Response:
        """Answer a conversation, with typed items and events. Nothing is stored."""
        return await _respond(gateway, http, body, caller, admit_response, ResponsesConverter, "responses")

    @app.post(
        "/v1/completions",
        responses=_ERRORS | {200: {"model": Completion, "content": _STREAM}},
    )
    async def completions(
        body: CompletionRequest, caller: Annotated[Caller, Depends(caller_of)], http: Request
    ) -> Response:
        """Continue texts. The policy's protect sentence precedes each."""
        return await _respond(gateway, http, body, caller, admit_completion, CompletionConverter, "completions")

    @app.post("/v1/embeddings", include_in_schema=False)
    async def embeddings() -> None:
        raise ApiError(404, "this server has no embeddings; ask another server for them", "not_found")


def _add_views(app: FastAPI, gateway: Gateway) -> None:
    caller_of = _caller_of(gateway)

    @app.get("/v1/models", responses=_ERRORS)
    def models(caller: Annotated[Caller, Depends(caller_of)]) -> ModelList:
        """List the models that this caller may name."""
        names = gateway.served.names(caller.policy)
        return ModelList(data=[Model(id=name, created=gateway.served.created) for name in names])

    @app.get("/v1/models/{name:path}", responses=_ERRORS)
    def model(name: str, caller: Annotated[Caller, Depends(caller_of)]) -> Model:
        """Return one of the models that this caller may name."""
        return Model(id=gateway.served.named(name, caller.policy), created=gateway.served.created)

    @app.get("/v1/policy", responses=_ERRORS)
    def policy(caller: Annotated[Caller, Depends(caller_of)]) -> PolicyView:
        """Return what this caller may ask for. OpenAI has no such route."""
        return PolicyView(
            name=caller.name,
            models=gateway.served.names(caller.policy),
            unguided=gateway.served.unguided(caller.policy),
            public_switches=[name for name in caller.policy.adapters if name in gateway.served.public_switches],
            **caller.policy.model_dump(include=Policy.model_fields.keys() & PolicyView.model_fields.keys()),
        )

    @app.post("/v1/policy/try", responses=_ERRORS)
    def try_policy(body: Trial, caller: Annotated[Caller, Depends(caller_of)]) -> Tried:
        """Say what a policy would give this caller, and what a request would get. OpenAI has no such route."""
        return tried_policy(body, caller, gateway.served)

    @app.get("/healthz", response_class=PlainTextResponse, responses=_TEXT)
    def healthz() -> str:
        """Report that the process is alive."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, responses=_TEXT | _ERRORS)
    def readyz() -> str:
        """Report whether new requests are taken."""
        gateway.check_open()
        return "ok\n"

    @app.get("/metrics", response_class=PlainTextResponse, responses=_TEXT)
    def metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(gateway.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(playground.PAGE, headers=playground.HEADERS)


async def _error_response(http: Request, error: Exception) -> Response:
    # A packed body is no JSON, or no text at all, which FastAPI tells apart.
    unread = isinstance(error, RequestValidationError) or (
        isinstance(error, HTTPException) and error.status_code == 400
    )
    if unread and (encoding := http.headers.get("content-encoding")):
        error = ApiError(415, f"Content-Encoding: {encoding} is not read; send it plain", "unsupported_media_type")
    elif isinstance(error, RequestValidationError):
        kind = http.headers.get("content-type", "missing")
        if kind.partition(";")[0].strip().lower() == "application/json":
            error = of_validation(error.errors())
        else:
            error = ApiError(415, f"Content-Type: is {kind}; send application/json", "unsupported_media_type")
    elif isinstance(error, HTTPException):
        headers = error.headers or {}
        error = ApiError(error.status_code, str(error.detail).lower(), _CODES.get(error.status_code, "http_error"))
        error.headers.update(headers)
    assert isinstance(error, ApiError)
    return JSONResponse(error.body.model_dump(), error.status, error.headers)


async def _bug_response(http: Request, error: Exception) -> Response:
    """Answer a bug; Starlette raises it again for the guard, which logs its type and place."""
    return await _error_response(http, ApiError(500, "the server failed; try again", "internal_error"))


_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


async def _respond(
    gateway: Gateway,
    http: Request,
    body: _Body,
    caller: Caller,
    admit: Callable[[_Body, Caller, Served], Admitted],
    new_converter: Callable[[str, _Body], Converter],
    endpoint: str,
) -> Response:
    # 1) the body and the caller have been read and checked
    record = RequestRecord(gateway.metrics, caller, endpoint)
    answering = None
    try:
        gateway.check_open()
        # 2) admission: engine requests within the policy
        admitted = admit(body, caller, gateway.served)
        record.guided = admitted.guided
        # 3) to 6) limits, queue, engine threads, output filter: see `gateway`
        answering = gateway.open(caller, admitted, bool(body.mark_pii))
        # 7) parts of the answer become events, or one body
        converter = new_converter(admitted.model, body)
        if body.stream:
            await _unless_gone(http, answering.started())
            events = _events(answering, converter, record, len(admitted.requests), body.wants_usage)
            return _Events(events, answering, record)
        parts = await _unless_gone(http, _all(answering, record))
        record.end("answered")
        whole = converter.whole(joined(parts, len(admitted.requests)), answering.usage)
        return Response(whole.model_dump_json(), media_type="application/json")
    except BaseException as error:
        if answering is not None:
            answering.abandon()
        record.end(error.code if isinstance(error, ApiError) else "failed")
        raise


async def _all(answering: Answering, record: RequestRecord) -> list[Part]:
    await answering.started()
    parts = []
    async for part in answering.parts():
        record.part(part)
        parts.append(part)
    return parts


async def _events(
    answering: Answering, converter: Converter, record: RequestRecord, choices: int, with_usage: bool
) -> AsyncIterator[str]:
    """Yield the events of a stream. After an error nothing follows, no `[DONE]` either."""
    for first in converter.first_events(choices):
        yield _event(first)
    try:
        async for part in answering.parts():
            record.part(part)
            if part.text or part.calls or part.logprobs or part.finish:
                for event in converter.events(part):
                    yield _event(event)
    except ApiError as error:
        record.end(error.code)
        yield _event(converter.error_event(error.body))
        return
    record.end("answered")
    for last in converter.last_events(answering.usage, with_usage):
        yield _event(last)
    yield converter.done


def _event(body: BaseModel) -> str:
    name = f"event: {body.type}\n" if isinstance(body, ResponseEvent) else ""
    return f"{name}data: {body.model_dump_json()}\n\n"


class _Events(StreamingResponse):
    """A streamed response that abandons its answers when it ends, also when the caller hangs up."""

    def __init__(self, events: AsyncIterator[str], answering: Answering, record: RequestRecord) -> None:
        # Tell proxies such as nginx not to buffer the stream.
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._answering = answering
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answering.abandon()
            self._record.end("hung_up")


async def _unless_gone(http: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Await work while the caller is connected.

    Raises:
        ApiError: The caller hung up.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "the caller hung up", "hung_up")
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
