"""A talk on the terminal: lines in, answers as they come. Knows an engine and the two streams."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance, Space
from nescio.core.prompts import Message
from nescio.engines.base import Engine, Request
from nescio.engines.torch_engine import load


@dataclass(frozen=True, slots=True)
class Settings:
    """How answers are asked for; guidance is checked here, before a model is loaded.

    Raises:
        NescioError: A value is out of its range, or guidance is asked for without the sentence that it goes by.
    """

    scale: float
    space: str
    protect: bool
    max_tokens: int
    temperature: float
    seed: int

    def __post_init__(self) -> None:
        if self._guidance.guided and not self.protect:
            raise NescioError(f"--scale {self.scale:g}: guides by the protect sentence; leave --no-protect out")

    @property
    def _guidance(self) -> Guidance:
        return Guidance(self.scale, cast(Space, self.space))

    def request(self, messages: list[Message]) -> Request:
        """The request for the next answer."""
        guidance = self._guidance if self.protect else None
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
