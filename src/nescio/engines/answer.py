"""What an engine gives: an answer, whole or in pieces, and the stream that carries them between threads."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from nescio.core.errors import NescioError


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, as a model writes it: the tool's name, and its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and its log-probability.

    Attributes:
        token_id: Number of the token.
        text: Text of the token; bytes that are no whole character are escaped (`\\xe2\\x82`).
        logprob: Log-probability in the guided distribution, before temperature.
        top: The most likely tokens at this position, most likely first.
        data: The token's bytes, if they are no whole characters; None: those of its text.
    """

    token_id: int
    text: str
    logprob: float
    top: tuple["TokenLogprob", ...] = ()
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer that ends at a whole character.

    Attributes:
        text: Text that the tokens add; may be empty in the last piece, when a stop text cuts it off.
        token_ids: Tokens since the previous piece.
        logprobs: One for each token, if the request asks for them.
    """

    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer.

    Attributes:
        text: The answer, without the stop text that ended it.
        token_ids: Tokens of the answer, without an end token.
        finish: `stop` (an end token or a stop text), `length`, `cancelled`, or `content_filter` (an endpoint's own).
        logprobs: One for each token, if the request asks for them.
        prompt_tokens: Length of the positive branch's prompt, in tokens.
        answer_tokens: Length of the answer in tokens; None: the length of `token_ids`.
        calls: Calls of tools, from an endpoint that gives them apart from the text.
    """

    text: str
    token_ids: list[int]
    finish: str
    logprobs: list[TokenLogprob] | None = None
    prompt_tokens: int = 0
    answer_tokens: int | None = None
    calls: tuple[ToolCall, ...] = ()

    @property
    def tokens(self) -> int:
        """Length of the answer in tokens."""
        return len(self.token_ids) if self.answer_tokens is None else self.answer_tokens


class Stream(Iterator[Piece]):
    """One answer in progress: an engine's thread puts pieces in; another thread iterates, or an event loop awaits them.

    Args:
        on_cancel: Called by each `cancel`, in the caller's thread, to wake the engine.
    """

    def __init__(self, on_cancel: Callable[[], None] = lambda: None) -> None:
        self.cancelled = threading.Event()
        self._on_cancel = on_cancel
        self._pieces: SimpleQueue[Piece | Answer | NescioError] = SimpleQueue()
        self._end: Answer | NescioError | None = None
        self._lock = threading.Lock()
        self._wake: Callable[[], object] | None = None  # whoever awaits the next piece

    def __next__(self) -> Piece:
        """Wait for the next piece.

        Raises:
            NescioError: The engine failed.
        """
        if self._end is None:
            got = self._pieces.get()
            if isinstance(got, Piece):
                return got
            self._end = got
        if isinstance(self._end, NescioError):
            raise self._end
        raise StopIteration

    async def arrived(self) -> list[Piece]:
        """Wait in an event loop until there are pieces; return all of them, or none at the answer's end.

        Raises:
            NescioError: The engine failed.
        """
        came, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            if self._end is None and self._pieces.empty():
                self._wake = lambda: loop.call_soon_threadsafe(came.set)
            else:
                came.set()
        await came.wait()
        pieces = list[Piece]()
        while self._end is None:
            try:
                got = self._pieces.get_nowait()
            except Empty:
                return pieces
            if isinstance(got, Piece):
                pieces.append(got)
            else:
                self._end = got
        if not pieces and isinstance(self._end, NescioError):
            raise self._end
        return pieces

    def texts(self) -> Iterator[str]:
        """Yield the text of each piece; cancel the answer if the caller stops early."""
        try:
            for piece in self:
                if piece.text:
                    yield piece.text
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End the answer early; callable from any thread, any number of times."""
        self.cancelled.set()
        self._on_cancel()

    @property
    def answer(self) -> Answer:
        """The complete answer; waits for its end and discards pieces that were not read.

        Raises:
            NescioError: The engine failed.
        """
        for _ in self:
            pass
        assert isinstance(self._end, Answer)  # the iterator raises anything else
        return self._end

    def put(self, piece: Piece) -> None:
        """Add a piece (called by the engine)."""
        self._add(piece)

    def end(self, result: Answer | NescioError) -> None:
        """End with the complete answer or an error (called by the engine)."""
        self._add(result)

    def _add(self, item: Piece | Answer | NescioError) -> None:
        with self._lock:
            self._pieces.put(item)
            wake, self._wake = self._wake, None
        if wake is not None:
            with suppress(RuntimeError):  # the event loop was closed: nobody waits
                wake()
