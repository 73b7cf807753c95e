"""The parameters of a request to an endpoint, and which of them it is known to refuse."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from nescio.engines.base import Request
from nescio.engines.endpoint_client import RefusedError
from nescio.engines.errors import FieldError

_OPTIONAL = ("temperature", "top_p", "top_k", "seed", "stop", "stream_options")
_SAMPLING = ("temperature", "top_p", "top_k")
_REFUSED = (
    r"(?:unsupported|not (?:currently )?support(?:ed)?|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|"
    r"extra (?:field|input)s?(?: are not permitted)?|only the default|deprecated)"
)
# What may stand between these words and the parameter that they are about, within a sentence.
_BETWEEN = (
    r"(?:(?:the|following|request|keyword|sampling|setting|body|supplied|argument|field|input|name|option|parameter|"
    r"property|properties|value|is|are|was|does|currently|on|by|for|with|this|model|msg)(?:s|\(s\))?[^\w.]+)*"
)
_NAMED = (
    re.compile(rf"\b{_REFUSED}[^\w.]+{_BETWEEN}(\w+)", re.IGNORECASE),
    re.compile(rf"(\w+)[^\w.]+{_BETWEEN}{_REFUSED}\b", re.IGNORECASE),
)


_DEFAULTS = {"temperature": 1.0, "top_p": 1.0}  # of OpenAI's API; left out, they change nothing


class Parameters:
    """What a model of an endpoint takes, learned from what it refuses. Callable from any thread.

    Args:
        strict: Whether a sampling parameter that would change the answer is refused rather than left out.
    """

    def __init__(self, strict: bool = False) -> None:
        self._strict = strict
        self._renamed: dict[str, str | None] = {}  # what is refused: another name, or None
        self._lock = threading.Lock()

    def sent(self, asked_for: Mapping[str, Any]) -> dict[str, str | None]:
        """Return the name under which each parameter is sent; None if it is left out.

        Raises:
            FieldError: One would be left out, and may not be.
        """
        with self._lock:
            sent = {name: self._renamed.get(name, name) for name in asked_for}
        for name, new in sent.items():
            if self._strict and new is None and name in _SAMPLING and asked_for[name] != _DEFAULTS.get(name):
                raise FieldError(f"{name}: the model takes none of {asked_for[name]!r}; leave it out", name)
        return sent

    def adapt(self, error: RefusedError, message: str, sent: Mapping[str, str | None], request: Request) -> str | None:
        """Leave out or rename the parameter that a message refuses.

        Args:
            error: The refusal.
            message: What the server says.
            sent: As the refused request was sent.
            request: The request.

        Returns:
            What is done from now on, in words; empty if another request has met the same refusal; None: nothing can be
            done.
        """
        names = {new: name for name, new in sent.items() if new}
        name = next((names[word] for word in _refused(error, message, request) if word in names), None)
        if name is None:
            return None
        with self._lock:
            if self._renamed.get(name, name) != sent.get(name, name):
                return ""
            if name == "max_tokens" and sent[name] == name:  # a limit is never left out
                if isinstance(request.prompt, str) or "max_completion_tokens" not in message:
                    return None
                self._renamed[name] = "max_completion_tokens"
                return f"{name} is sent as max_completion_tokens"
            if name not in _OPTIONAL:
                return None
            self._renamed[name] = None
            return f"{name} is left out"


def _refused(error: RefusedError, message: str, request: Request) -> Iterator[str]:
    """Yield the words that may be the name of the parameter that a message refuses."""
    if error.status not in (400, 422) or not re.search(_REFUSED, message, re.IGNORECASE):
        return
    param = error.field("param")
    if param and param != "None":  # which is LiteLLM's null
        yield str(param).removeprefix("body.").partition(".")[0]
        return
    # What a caller's tools and schemas call their own fields is no parameter, and what one caller's request
    # teaches holds for all.
    turns = [] if isinstance(request.prompt, str) else [turn.get("tool_calls") for turn in request.prompt]
    names = [*_names([list(request.tools), request.response_format, turns]), *request.stop]
    own = set(re.findall(r"\w+", " ".join(names)))
    for match in (match for pattern in _NAMED for match in pattern.finditer(message)):
        if match[1] not in own:
            yield match[1]


def _names(value: Any) -> Iterator[str]:
    """Yield the names in tools, schemas and calls: keys, what `name` and `required` say, and keys of arguments."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, list):
            left += each
        elif isinstance(each, Mapping):
            for key, inner in each.items():
                yield str(key)
                left.append(inner)
                if key in ("name", "required"):
                    yield from (one for one in (inner if isinstance(inner, list) else [inner]) if isinstance(one, str))
                elif key == "arguments" and isinstance(inner, str):
                    with suppress(ValueError, RecursionError):  # as a model wrote them
                        left.append(json.loads(inner))


def wanted(request: Request) -> dict[str, Any]:
    """Return the parameters of a request but its prompt and its model."""
    asked_for: dict[str, Any] = {
        "max_tokens": request.max_tokens, "temperature": request.temperature, "top_p": request.top_p,
        "seed": request.seed,
    }  # fmt: skip
    if request.stop:
        asked_for["stop"] = list(request.stop)
    for name in ("top_k", "min_p", "presence_penalty", "frequency_penalty"):
        if value := getattr(request, name):
            asked_for[name] = value
    if request.logit_bias:
        asked_for["logit_bias"] = {str(token): bias for token, bias in request.logit_bias.items()}
    if request.tools:
        asked_for["tools"] = list(request.tools)
        if request.tool_choice != "auto":
            asked_for["tool_choice"] = request.tool_choice
        if not request.parallel_tool_calls:
            asked_for["parallel_tool_calls"] = False
    if request.response_format:
        asked_for["response_format"] = request.response_format
    return asked_for
