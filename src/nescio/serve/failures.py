"""What a caller is told of a failure, and what the log says of it: neither quotes a prompt or an answer."""

import logging

from nescio.core.errors import NescioError
from nescio.engines.base import BrokenError, EndpointError, EngineClosedError
from nescio.engines.errors import FieldError
from nescio.serve.checker import FilterError
from nescio.serve.errors import ApiError, engine_down

_LOG = logging.getLogger("nescio.serve")
_CALLERS_FAULT = (400, 413, 422)


def to_api_error(error: Exception) -> ApiError:
    """Return the error to send for whatever went wrong while a request was answered; log it if it is ours."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, FieldError):
        return ApiError(400, str(error), "invalid_value", error.field)
    # Only nescio's own words are known to quote no prompt.
    if isinstance(error, FilterError):
        cause = error.__cause__
        _LOG.error("audit: %s (%s)", error, cause if isinstance(cause, NescioError) else type(cause).__name__)
        return ApiError(503, "a text could not be checked and is withheld; try again", "audit_failed")
    own = error.message if isinstance(error, BrokenError | EndpointError) else error
    _LOG.error("engine: %s", own if isinstance(error, NescioError) else type(error).__name__)
    if isinstance(error, EngineClosedError):
        return engine_down()
    if isinstance(error, EndpointError):
        return _of_upstream(error)
    return ApiError(500, "the engine failed; try again", "engine_error")


def _of_upstream(error: EndpointError) -> ApiError:
    # What an upstream says is for nobody here: it may name its own keys, models and machines, or quote the prompt.
    if error.status in _CALLERS_FAULT:
        return ApiError(400, "the upstream refuses the request; check its fields and length", "upstream_refused")
    if error.status == 429:
        after = error.retry_after or 1.0
        return ApiError(429, "the upstream is busy; try again later", "upstream_busy", retry_after=after)
    if error.status == 504:
        return ApiError(504, "the upstream did not answer in time; try again", "upstream_timeout")
    return ApiError(502, "the upstream failed or broke off; try again", "upstream_failed")
