"""A conversation on the terminal: reads lines, prints answers as they are generated."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message
from nescio.engines.base import Engine, Request
from nescio.engines.torch_engine import load


@dataclass(frozen=True, slots=True)
class Settings:
    """How answers are asked for.

    Raises:
        NescioError: Guidance is asked for without the protect sentence.
    """

    guidance: Guidance
    protect: bool
    max_tokens: int
    temperature: float
    seed: int

    def __post_init__(self) -> None:
        if self.guidance.guided and not self.protect:
            scale = f"--scale {self.guidance.scale:g}"
            raise NescioError(f"{scale}: guides by the protect sentence; leave --no-protect out")

    def request(self, messages: list[Message]) -> Request:
        """The request for the next answer."""
        guidance = self.guidance if self.protect else None
        return Request(messages, guidance, max_tokens=self.max_tokens, temperature=self.temperature, seed=self.seed)


def talk(model: str, adapter: Path | None, settings: Settings, message: str | None) -> None:
    """Answer one message, or every line of standard input until an empty one.

    Raises:
        NescioError: A setting is out of range, or the model can't be loaded.
    """
    settings.request([Message(role="user", content="-")])
    engine = load(model, adapter)
    messages: list[Message] = []
    for line in [message] if message is not None else _lines():
        messages.append(Message(role="user", content=line))
        messages.append(Message(role="assistant", content=_say(engine, settings.request(messages))))


def _lines() -> Iterator[str]:
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if not line.strip():
            return
        yield line


def _say(engine: Engine, request: Request) -> str:
    pieces = []
    for piece in engine.stream(request):
        print(piece, end="", flush=True)
        pieces.append(piece)
    print()
    return "".join(pieces)
