"""A conversation on the terminal: reads lines, prints answers as they are generated."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nescio.core.adapters import read_sentences
from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.models import locate, one_adapter
from nescio.core.prompts import Message
from nescio.engines.base import Engine, Request
from nescio.engines.torch_engine import load

_NOT_UTF8 = "{}: a message is not UTF-8; write it in UTF-8"


@dataclass(frozen=True, slots=True)
class Settings:
    """How answers are asked for; `protect` None asks a model as its row in a run's table is asked.

    Raises:
        NescioError: Guidance is asked for without the protect sentence.
    """

    guidance: Guidance
    protect: bool | None
    max_tokens: int
    temperature: float
    seed: int

    def __post_init__(self) -> None:
        if self.guidance.guided and self.protect is False:
            scale = f"--scale {self.guidance.scale:g}"
            raise NescioError(f"{scale}: guides by the protect sentence; leave --no-protect out")

    def of(self, adapter: Path | None) -> "Settings":
        """Return the settings for an adapter, or for a model without one: with or without the protect sentence."""
        own = read_sentences(adapter).get("positive") if adapter else None
        needed = self.guidance.guided or self.guidance.positive is not None or bool(own)
        return replace(self, protect=needed if self.protect is None else self.protect)

    def request(self, messages: list[Message]) -> Request:
        """The request for the next answer."""
        guidance = self.guidance if self.protect else None
        return Request(messages, guidance, max_tokens=self.max_tokens, temperature=self.temperature, seed=self.seed)


def talk(model: str, adapter: Path | None, settings: Settings, message: str | None) -> None:
    """Answer one message, or every line of standard input until an empty one.

    Raises:
        NescioError: A setting is out of range, the model can't be loaded, or a message is empty or no text.
    """
    if message is not None and not message.strip():
        raise NescioError("--message: is empty; give a message, or leave it out and type")
    settings.request([Message(role="user", content="-")])
    settings = settings.of(one_adapter(locate(model)[1], adapter))
    engine = load(model, adapter)
    messages: list[Message] = []
    for line in [message] if message is not None else _lines():
        _check_text(line, "standard input" if message is None else "--message")
        messages.append(Message(role="user", content=line))
        messages.append(Message(role="assistant", content=_say(engine, settings.request(messages))))


def _lines() -> Iterator[str]:
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise NescioError(_NOT_UTF8.format("standard input")) from error
        if not line.strip():
            return
        yield line


def _check_text(text: str, source: str) -> None:
    """Refuse bytes of another encoding, which some terminals let through as halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NescioError(_NOT_UTF8.format(source)) from error


def _say(engine: Engine, request: Request) -> str:
    pieces = []
    for piece in engine.stream(request):
        print(piece, end="", flush=True)
        pieces.append(piece)
    print()
    return "".join(pieces)
