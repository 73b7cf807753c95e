"""What an engine is: whoever needs text or likelihoods asks one. Knows nothing of how it is done."""

import atexit
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, Protocol, Self
from weakref import WeakSet

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message

Prompt = str | list[Message]
Precision = Literal["full", "half"]
"""Of the weights on a CPU."""

Progress = Callable[[int, int], None]
"""Called with (requests done, requests in all)."""


class UnansweredError(NescioError):
    """One request got no answer; others may."""


class EngineClosedError(NescioError):
    """The engine was closed, or died: it answers nothing more."""


@dataclass(frozen=True, slots=True)
class Request:
    """One answer asked for.

    Attributes:
        prompt: A conversation (a last assistant message is continued), or text that is taken as it is.
        guidance: None: the prompt as it is. Else its positive sentence is added to the system message of a
            conversation, and above scale 1 the negative branch runs beside it.
        negative: The negative branch's own prompt, in the place of the one with the negative sentence.
        adapter: Name of the adapter to attach; None leaves all detached. `default` is the one the engine was loaded
            with, if any.
        max_tokens: Most new tokens.
        temperature: 0 is greedy, and so is what lies below 1e-5.
        top_p: Nucleus of the guided distribution to sample from.
        top_k: Most likely tokens to sample from; 0 is all.
        seed: Of this request's own random generator.
        stop: Texts at whose first occurrence the answer ends, without them.
        logprobs: How many of the most likely tokens to tell beside each chosen one, with log-probabilities of the
            guided distribution before temperature; 0 tells the chosen one's alone, None none.
    """

    prompt: Prompt
    guidance: Guidance | None = None
    negative: Prompt | None = None
    adapter: str | None = "default"
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise NescioError("an empty prompt; give a text or at least one message")
        if self.negative is not None and (self.guidance is None or not self.guidance.guided):
            raise NescioError("a negative prompt without guidance; give a scale other than 1 with it")
        if self.max_tokens < 1:
            raise NescioError(f"max_tokens {self.max_tokens}: must be 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise NescioError(f"temperature {self.temperature}: must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            raise NescioError("top_p must lie in (0, 1] and top_k be 0 (all) or more")
        if self.logprobs is not None and self.logprobs < 0:
            raise NescioError(f"logprobs {self.logprobs}: must be 0 or more, or left out")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, its text, its log-probability, and the most likely tokens at its place, likeliest first."""

    token_id: int
    text: str
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer that ends at a whole character, with the tokens since the piece before.

    Attributes:
        text: What the tokens add; may be empty for a last piece whose text is cut off by a stop text.
        token_ids: Of this piece.
        logprobs: One for each of the tokens, where the request asks for them.
    """

    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine gave.

    Attributes:
        text: Without the stop text that ended it.
        token_ids: EOS left out.
        finish: `stop` (EOS or a stop text), `length` or `cancelled`.
        logprobs: One for each token, where the request asks for them.
        prompt_tokens: Length of the positive branch's prompt.
        answer_tokens: Length of the answer where an engine does not tell its token ids; None: theirs.
    """

    text: str
    token_ids: list[int]
    finish: str
    logprobs: list[TokenLogprob] | None = None
    prompt_tokens: int = 0
    answer_tokens: int | None = None


class Stream(Iterator[Piece]):
    """One answer on its way: an engine's thread puts its pieces, another thread iterates over them.

    Args:
        on_cancel: Called at each `cancel`, from the canceller's thread, to wake the engine.
    """

    def __init__(self, on_cancel: Callable[[], None] = lambda: None) -> None:
        self.cancelled = threading.Event()
        self._on_cancel = on_cancel
        self._pieces: SimpleQueue[Piece | Answer | NescioError] = SimpleQueue()
        self._end: Answer | NescioError | None = None

    def __next__(self) -> Piece:
        """Wait for the next piece.

        Raises:
            NescioError: The engine could not go on.
        """
        if self._end is None:
            got = self._pieces.get()
            if isinstance(got, Piece):
                return got
            self._end = got
        if isinstance(self._end, NescioError):
            raise self._end
        raise StopIteration

    def texts(self) -> Iterator[str]:
        """The texts of the pieces, as they come. Left early, the answer is cancelled."""
        try:
            for piece in self:
                if piece.text:
                    yield piece.text
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End the answer where it is; its rows are freed before the next step. From any thread, more than once."""
        self.cancelled.set()
        self._on_cancel()

    @property
    def answer(self) -> Answer:
        """The whole answer; waits for its end and drops the pieces that nobody took.

        Raises:
            NescioError: The engine could not go on.
        """
        for _ in self:
            pass
        assert isinstance(self._end, Answer)  # the iterator raises anything else
        return self._end

    def put(self, piece: Piece) -> None:
        """For engines: add a piece."""
        self._pieces.put(piece)

    def end(self, how: Answer | NescioError) -> None:
        """For engines: end with the whole answer, or with what went wrong."""
        self._pieces.put(how)


@dataclass(frozen=True, slots=True)
class Scoring:
    """A continuation whose likelihood is asked for, after a prompt, guided or not."""

    prompt: Prompt
    continuation: str
    guidance: Guidance | None = None
    adapter: str | None = "default"


class TooLongError(NescioError):
    """A request that a shorter answer would make possible.

    Attributes:
        room: How many new tokens the prompt leaves room for; below 1 there is none.
    """

    def __init__(self, message: str, room: int) -> None:
        super().__init__(message)
        self.room = room


class ContextExceededError(TooLongError):
    """A prompt with its new tokens exceeds the model's context."""

    def __init__(self, prompt_tokens: int, max_tokens: int, context: int) -> None:
        super().__init__(
            f"a prompt of {prompt_tokens} tokens and {max_tokens} new ones exceed the model's context of {context}; "
            "shorten one of them",
            context - prompt_tokens,
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do, asked before it is asked to.

    Attributes:
        guidance: Whether it guides.
        adapters: Names of those loaded.
        scores: Whether it gives likelihoods.
        control_tokens: Texts that its tokenizer turns into control tokens wherever they stand, as the marks of turns.
    """

    guidance: bool
    adapters: tuple[str, ...] = field(default=())
    scores: bool = True
    control_tokens: tuple[str, ...] = ()


class Closable(Protocol):
    """Something that owns a thread and ends it when it is closed."""

    def close(self) -> None:
        """End the thread; more than once is harmless."""


_OPEN: WeakSet[Closable] = WeakSet()


def close_at_exit(owner: Closable) -> None:
    """Close an owner of a daemon thread when the interpreter exits.

    A daemon thread that is still inside PyTorch while the interpreter shuts down aborts the process.
    """
    _OPEN.add(owner)


@atexit.register
def _close_all() -> None:
    for owner in list(_OPEN):
        owner.close()


class EngineMethods(ABC):
    """What every engine inherits: `with nescio.load(…) as engine:` closes it at the end."""

    @abstractmethod
    def close(self) -> None:
        """End the requests that are left with an error, and free what is held. More than once is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class Engine(Protocol):
    """Text and likelihoods, guided or not."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""

    @property
    def closed(self) -> bool:
        """Whether it was closed, or died: it answers nothing more."""

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, in their order."""

    def stream(self, request: Request) -> Iterator[str]:
        """Answer one request piece by piece."""

    def submit(self, request: Request) -> Stream:
        """Start answering and return at once; from any thread.

        Raises:
            NescioError: A request that can never be served.
            EngineClosedError: The engine answers nothing more.
        """

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        """Log-probability of each token of each continuation."""

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a PEFT adapter under a name, while running.

        Raises:
            NescioError: It does not fit, the name is taken, or this engine has no adapters.
        """

    def drop_adapter(self, name: str) -> None:
        """Drop a loaded adapter, while running: new requests for it are refused, those on their way keep it.

        Raises:
            NescioError: There is none of that name.
        """

    def close(self) -> None:
        """End the requests that are left with an error, and free what is held. More than once is harmless."""
