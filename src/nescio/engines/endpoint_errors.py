"""What an endpoint's refusal means, and as much of its words as may be quoted."""

import re
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from nescio.engines.base import EndpointError, Request, UnansweredError
from nescio.engines.endpoint_client import RefusedError

_QUOTED = 300  # most characters of a server's message in an error
_ECHO = 12  # characters that a server's message may share with the prompt by chance


def quotable_message(error: RefusedError, request: Request, key: str | None) -> str:
    """Return what the server says, in one line, without keys and what it repeats of the prompt."""
    text = error.body
    if isinstance(text, dict):
        text = error.field("message") or error.field("detail")
    message = " ".join(str(text or "")[: 4 * _QUOTED].split())
    if key:
        message = message.replace(key, "…")
    message = re.sub(r"\bsk-[\w*-]+", "…", message)
    prompt = request.prompt
    message = _without_echo(message, [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt])
    return message if len(message) <= _QUOTED else f"{message[:_QUOTED]}…"


def to_endpoint_error(error: RefusedError, message: str, place: str, key_env: str | None) -> EndpointError:
    """Return the error to raise: one that ends the work, or one that says that a request got no answer.

    Args:
        error: The refusal.
        message: The server's words, as they may be quoted.
        place: Names the model and the endpoint.
        key_env: Environment variable that holds the key.
    """
    if error.status in (401, 403):
        key = f"the key in {key_env} is refused; set a valid one" if key_env else "it wants a key; give key_env"
        return EndpointError(f"{place}: {key}", error.status, message)
    if error.status == 404 or error.status < 400:
        moved = "redirects to another address; give the right base_url"
        wrong = moved if error.status < 400 else "no such model or endpoint there; correct model or base_url"
        return EndpointError(f"{place}: {wrong}", error.status, message)
    if error.field("code") == "insufficient_quota":
        return EndpointError(f"{place}: the account's quota is used up; top it up and run again")
    return UnansweredError(f"{place}: HTTP {error.status}", error.status, message, error.retry_after)


def _without_echo(message: str, texts: Iterable[str]) -> str:
    """Return a message with an ellipsis for each piece that stands in a text, too, in time linear in their length."""
    pieces = {message[at : at + _ECHO] for at in range(len(message) - _ECHO + 1)}
    echoed = set[str]()
    for text in texts:
        line = " ".join(text.split())  # as the message is
        echoed.update(pieces.intersection(line[at : at + _ECHO] for at in range(len(line) - _ECHO + 1)))
    is_echo = [False] * len(message)
    for at in range(len(message)):
        if message[at : at + _ECHO] in echoed:
            is_echo[at : at + _ECHO] = [True] * _ECHO
    runs = groupby(zip(message, is_echo, strict=True), key=itemgetter(1))
    return "".join("…" if echo else "".join(letter for letter, _ in run) for echo, run in runs)
