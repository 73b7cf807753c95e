"""Errors as OpenAI's API reports them."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """The fields of an error that OpenAI's clients read."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every response that is not a success."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that gets no answer, or an incomplete one.

    Args:
        status: HTTP status.
        message: One line for the caller: what is wrong, where, and how to fix it.
        code: A fixed word for programs.
        param: Name of the wrong field.
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
    """Return the error of a closed engine, which lasts until the server is restarted."""
    return ApiError(503, "the engine has stopped; try again later", "engine_down", retry_after=30)


def outside_policy(message: str, param: str) -> ApiError:
    """Return the error of a request that the policy does not allow."""
    return ApiError(403, message, "outside_policy", param)


def of_validation(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """Return the first of Pydantic's errors about a body, unknown fields before all others."""
    first = min(problems, key=_rank)
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON ({first['ctx']['error']} at {first['loc'][-1]})", "invalid_json")
    # Pydantic adds the branch of a union that it tried: "messages.0.content.str".
    names = [str(part) for part in first["loc"][1:-1] if not _BRANCH.search(str(part))]
    last = str(first["loc"][-1])
    if len(first["loc"]) > 1 and (first["type"] == "extra_forbidden" or not _BRANCH.search(last)):
        names.append(last)
    if first["type"] == "unsupported":  # found out at the object around the field
        names.append(first["ctx"]["field"])
    param = ".".join(names) or None
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"unrecognized request argument supplied: {param}", "unknown_parameter", param)
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{param or 'body'}: {message[:1].lower()}{message[1:]}", "invalid_value", param)


_BRANCH = re.compile(r"^(str|list)$|\W")


def _rank(problem: Mapping[str, Any]) -> tuple[bool, bool]:
    """Sort unknown fields first, and what a union's branch for another type says last."""
    is_other_branch = problem["type"].endswith("_type") and bool(_BRANCH.search(str(problem["loc"][-1])))
    return problem["type"] != "extra_forbidden", is_other_branch
