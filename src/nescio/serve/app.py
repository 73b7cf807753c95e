"""The HTTP application: routes in, bodies and events out. Knows no engine, and keeps no content."""

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
from starlette.types import Receive, Scope, Send

import nescio
from nescio.serve import playground
from nescio.serve.admission import Admitted, Served, admit_chat, admit_completion
from nescio.serve.answering import Answering, Part
from nescio.serve.errors import ApiError, ErrorBody, of_validation
from nescio.serve.gateway import Serving
from nescio.serve.guard import Guard
from nescio.serve.openai_api.converters import ChatShape, CompletionShape, Shape, joined
from nescio.serve.openai_api.request_bodies import ChatRequest, CompletionRequest
from nescio.serve.openai_api.response_bodies import ChatCompletion, Completion, Model, ModelList, PolicyView
from nescio.serve.policy import Caller
from nescio.serve.record import Record

_Got = TypeVar("_Got")
_Body = TypeVar("_Body", ChatRequest, CompletionRequest)
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request is wrong, not allowed, or comes too soon"},
    "5XX": {"model": ErrorBody, "description": "The server failed, or withholds what it could not check"},
}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_bearer = HTTPBearer(auto_error=False, description="An API key; without one, the policy named `default` counts.")


def create_app(serving: Serving, max_body: int, cors_origins: Sequence[str] = ()) -> Guard:
    """Create the application of a server.

    Args:
        serving: What it holds.
        max_body: Most bytes of a request's body.
        cors_origins: Origins of pages in whose scripts browsers may read answers; `*` is any.
    """
    app = FastAPI(
        title="nescio",
        version=nescio.__version__,
        summary="Classifier-free guidance and adapters by source of traffic, in OpenAI's shapes",
        docs_url=None,  # these pages fetch their scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(ApiError, _told)
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(RequestValidationError, _told)
    _add_answers(app, serving)
    _add_views(app, serving)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    return Guard(app, max_body)


def _caller_of(serving: Serving) -> Callable[..., Caller]:
    def caller(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
        found = serving.policies.caller(credentials.credentials if credentials else None)
        if found is None:
            said = "this API key is unknown" if credentials else "give an API key (Authorization: Bearer KEY)"
            raise ApiError(401, said, "invalid_api_key")
        return found

    return caller


def _add_answers(app: FastAPI, serving: Serving) -> None:
    caller_of = _caller_of(serving)

    @app.post(
        "/v1/chat/completions",
        responses=_ERRORS | {200: {"model": ChatCompletion, "content": _STREAM}},
    )
    async def chat_completions(
        body: ChatRequest, caller: Annotated[Caller, Depends(caller_of)], http: Request
    ) -> Response:
        """Answer a conversation."""
        return await _respond(serving, http, body, caller, admit_chat, ChatShape)

    @app.post(
        "/v1/completions",
        responses=_ERRORS | {200: {"model": Completion, "content": _STREAM}},
    )
    async def completions(
        body: CompletionRequest, caller: Annotated[Caller, Depends(caller_of)], http: Request
    ) -> Response:
        """Continue texts, each after the policy's protect sentence."""
        return await _respond(serving, http, body, caller, admit_completion, CompletionShape)


def _add_views(app: FastAPI, serving: Serving) -> None:
    caller_of = _caller_of(serving)

    @app.get("/v1/models", responses=_ERRORS)
    def models(caller: Annotated[Caller, Depends(caller_of)]) -> ModelList:
        """The models that this caller may name."""
        names = serving.served.names(caller.policy)
        return ModelList(data=[Model(id=name, created=serving.served.created) for name in names])

    @app.get("/v1/models/{name:path}", responses=_ERRORS)
    def model(name: str, caller: Annotated[Caller, Depends(caller_of)]) -> Model:
        """One of the models that this caller may name."""
        return Model(id=serving.served.named(name, caller.policy), created=serving.served.created)

    @app.get("/v1/policy", responses=_ERRORS)
    def policy(caller: Annotated[Caller, Depends(caller_of)]) -> PolicyView:
        """What this caller may ask for; OpenAI has no such route."""
        return PolicyView(
            name=caller.name,
            models=serving.served.names(caller.policy),
            **caller.policy.model_dump(include=PolicyView.model_fields.keys() - {"name", "models"}),
        )

    @app.get("/healthz", response_class=PlainTextResponse, responses=_TEXT)
    def healthz() -> str:
        """The process lives."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, responses=_TEXT | _ERRORS)
    def readyz() -> str:
        """New requests are taken."""
        serving.check_open()
        return "ok\n"

    @app.get("/metrics", response_class=PlainTextResponse, responses=_TEXT)
    def metrics() -> Response:
        """For Prometheus."""
        return Response(serving.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(playground.PAGE, headers=playground.HEADERS)


async def _told(http: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        kind = http.headers.get("content-type", "missing")
        if kind.partition(";")[0].strip().lower() == "application/json":
            error = of_validation(error.errors())
        else:
            error = ApiError(415, f"Content-Type: is {kind}; send application/json", "unsupported_media_type")
    elif isinstance(error, HTTPException):
        told = ApiError(error.status_code, str(error.detail).lower(), _CODES.get(error.status_code, "http_error"))
        told.headers.update(error.headers or {})
        error = told
    assert isinstance(error, ApiError)
    return JSONResponse(error.body.model_dump(), error.status, error.headers)


_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


async def _respond(
    serving: Serving,
    http: Request,
    body: _Body,
    caller: Caller,
    admit: Callable[[_Body, Caller, Served], Admitted],
    new_shape: type[ChatShape] | type[CompletionShape],
) -> Response:
    record = Record(serving.metrics, caller.name, new_shape.endpoint)
    answering = None
    try:
        serving.check_open()
        admitted = admit(body, caller, serving.served)
        record.guided = admitted.guided
        answering = serving.open(caller, admitted, body.mark_pii)
        await _unless_gone(http, answering.started())
        shape = new_shape(admitted.model, body.mark_pii)
        if body.stream:
            usage = body.stream_options is not None and bool(body.stream_options.include_usage)
            return _Events(_events(answering, shape, record, len(admitted.requests), usage), answering, record)
        parts = await _unless_gone(http, _all(answering, record))
        record.end("answered")
        whole = shape.whole(joined(parts, len(admitted.requests)), answering.usage)
        return Response(whole.model_dump_json(), media_type="application/json")
    except BaseException as error:
        if answering is not None:
            answering.abandon()
        record.end(error.code if isinstance(error, ApiError) else "failed")
        raise


async def _all(answering: Answering, record: Record) -> list[Part]:
    parts = []
    async for part in answering.parts():
        record.part(part)
        parts.append(part)
    return parts


async def _events(
    answering: Answering, shape: Shape, record: Record, choices: int, with_usage: bool
) -> AsyncIterator[str]:
    """The lines of a stream; an error in its middle is its last, without the [DONE] of a whole answer."""
    for opening in shape.opening(choices):
        yield _event(opening)
    try:
        async for part in answering.parts():
            record.part(part)
            if part.text or part.logprobs or part.finish:
                yield _event(shape.event(part))
    except ApiError as error:
        record.end(error.code)
        yield _event(error.body)
        return
    record.end("answered")
    if with_usage:
        yield _event(shape.closing(answering.usage))
    yield "data: [DONE]\n\n"


def _event(body: BaseModel) -> str:
    return f"data: {body.model_dump_json()}\n\n"


class _Events(StreamingResponse):
    """A stream whose end, whoever's it is, ends the answers behind it."""

    def __init__(self, events: AsyncIterator[str], answering: Answering, record: Record) -> None:
        # A proxy that collects a response before it passes it on would hold the stream back.
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._answering = answering
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answering.abandon()
            self._record.end("hung_up")


async def _unless_gone(http: Request, work: Coroutine[Any, Any, _Got]) -> _Got:
    """Do it while the caller waits for it.

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
