"""The interface of an engine, and what every engine can do; requests, answers and errors are imported from here too."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message
from nescio.engines.answer import Answer, Piece, Stream, TokenLogprob, ToolCall
from nescio.engines.errors import (
    BrokenError,
    ContextExceededError,
    EndpointError,
    EngineClosedError,
    NoLikelihoodsError,
    TooLongError,
    UnansweredError,
)
from nescio.engines.request import Prompt, Request, Scoring, Tool, asking, check_bias, check_plain

__all__ = [
    "Answer", "BrokenError", "Capabilities", "ContextExceededError", "EndpointError", "Engine", "EngineClosedError",
    "NoLikelihoodsError", "Piece", "Precision", "Progress", "Prompt", "Request", "Scoring", "Stream", "TokenLogprob",
    "TooLongError", "Tool", "ToolCall", "UnansweredError", "check_bias", "check_plain",
]  # fmt: skip

Precision = Literal["full", "half", "bf16", "int8"]
"""Precision of the weights on a CPU; `bf16` is also that of the products."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What can be named in an engine's requests.

    Attributes:
        adapters: Names of the loaded adapters.
        control_tokens: Texts that the tokenizer turns into control tokens wherever they stand, such as turn markers.
        chat_template: Source of the template that renders conversations.
    """

    adapters: tuple[str, ...] = ()
    control_tokens: tuple[str, ...] = ()
    chat_template: str = ""


class Engine(ABC):
    """Generates and scores text, guided or not.

    An engine has to define `generate` only. It refuses by name what a request asks for and it can't do. The methods
    defined here suit an engine without streaming, likelihoods and adapters; others override them.
    """

    @abstractmethod
    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, in their order.

        Raises:
            NescioError: A request that can't be served.
        """

    def submit(self, request: Request) -> Stream:
        """Start answering and return at once; callable from any thread.

        Raises:
            NescioError: A request that can never be served.
            EngineClosedError: The engine is closed.
        """
        stream = Stream()

        def answer() -> None:
            try:
                whole = self.generate([request])[0]
                stream.put(Piece(whole.text, whole.token_ids, whole.logprobs))
                stream.end(whole)
            except NescioError as error:
                stream.end(error)
            except Exception as error:  # the reader of the stream has to be woken, whatever it is
                stream.end(BrokenError("generating failed", error))

        threading.Thread(target=answer, daemon=True).start()
        return stream

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        """Return the log-probability of each token of each continuation; an empty continuation has none.

        Raises:
            NescioError: An item that can't be scored.
            NoLikelihoodsError: An engine without likelihoods.
        """
        raise NoLikelihoodsError(f"{type(self).__name__} gives no likelihoods; use a torch or vllm engine")

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a PEFT adapter under a name, while requests are running.

        Raises:
            NescioError: The adapter does not fit, the name is taken, or this engine takes no adapters.
        """
        raise NescioError(f"adapter {name!r}: {type(self).__name__} takes no adapters; use a torch or vllm engine")

    def drop_adapter(self, name: str) -> None:
        """Drop a loaded adapter; new requests for it are refused, running ones keep it.

        Raises:
            NescioError: No adapter has that name.
        """
        raise NescioError(f"adapter {name!r} is not loaded; {type(self).__name__} takes no adapters")

    def close(self) -> None:  # noqa: B027  # an engine that holds nothing has nothing to close
        """End running requests with an error and free all resources; closing twice is harmless."""

    @property
    def capabilities(self) -> Capabilities:
        """What can be named in requests."""
        return Capabilities()

    @property
    def closed(self) -> bool:
        """Whether the engine was closed or failed; it then takes no more requests."""
        return False

    # -- the same for every engine ------------------------------------------------------------------------------------

    def chat(self, messages: list[Message], guidance: Guidance | None = None, **options: Any) -> str:
        """Answer a conversation; options are the fields of `Request`.

        Raises:
            NescioError: The messages are a bare text, or the request can't be served.
        """
        if isinstance(messages, str):
            raise NescioError("chat: got a text; give messages, or continue it without the chat template by complete")
        return self.generate([asking(messages, guidance, options)])[0].text

    def complete(self, prompt: str, guidance: Guidance | None = None, **options: Any) -> str:
        """Continue a text without the chat template; options are the fields of `Request`."""
        return self.generate([asking(prompt, guidance, options)])[0].text

    def score(
        self, prompt: Prompt, continuation: str, guidance: Guidance | None = None, adapter: str | None = "default"
    ) -> list[float]:
        """Return the log-probability of each token of a continuation after a prompt, guided or not."""
        return self.score_batch([Scoring(prompt, continuation, guidance, adapter)])[0]

    def stream(self, request: Request) -> Iterator[str]:
        """Yield an answer's text piece by piece, in whole characters; stopping early cancels the answer."""
        yield from self.submit(request).texts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
