"""Errors in OpenAI's shape. Knows HTTP status codes; nothing of who raises them."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that gets no answer, or no whole one.

    Args:
        status: HTTP status.
        message: One line for the caller: what, where and the mend; nothing of another caller's.
        code: For programs.
        param: The field of the request that is wrong.
        retry_after: Seconds after which it is worth trying again.
    """

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.body = ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=code))
        self.headers = {} if retry_after is None else {"Retry-After": str(math.ceil(max(1.0, retry_after)))}


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def engine_down() -> ApiError:
    """Nothing is answered until the server is started again."""
    return ApiError(503, "the engine has stopped; try again later", "engine_down", retry_after=30)


def outside_policy(message: str, param: str) -> ApiError:
    """A caller asks for what its policy does not give."""
    return ApiError(403, message, "outside_policy", param)


def of_validation(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first of Pydantic's complaints about a body, or an unknown field before all others."""
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON ({first['ctx']['error']} at {first['loc'][-1]})", "invalid_json")
    # Past the field's own name Pydantic tells which form of it was tried: "messages.0.content.str".
    names = [str(part) for part in takewhile(lambda part: not _FORM.search(str(part)), first["loc"][1:])]
    param = ".".join(names) or None
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"unrecognized request argument supplied: {param}", "unknown_parameter", param)
    said = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{param or 'body'}: {said[:1].lower()}{said[1:]}", "invalid_value", param)


_FORM = re.compile(r"^(str|list)$|\W")
