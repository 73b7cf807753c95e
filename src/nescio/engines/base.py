"""The interface of an engine: requests, answers, streams, errors, and what every engine can do."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Self

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message

Prompt = str | list[Message]
Tool = Mapping[str, Any]
"""A function that a model may call: `{"type": "function", "function": {"name", "description", "parameters"}}`."""

Precision = Literal["full", "half"]
"""Precision of the weights on a CPU."""

Progress = Callable[[int, int], None]
"""Callback `(requests done, total)`."""


class EndpointError(NescioError):
    """An endpoint did not answer a request.

    Attributes:
        status: HTTP status that it answered with; 504 if it was too slow, 502 if it broke off or made no sense.
        said: What it says itself, in one line, without keys and what it repeats of the prompt.
        retry_after: Seconds after which it may be asked again, if it says so.
    """

    def __init__(self, message: str, status: int = 502, said: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.said, self.retry_after = status, said, retry_after


class UnansweredError(EndpointError):
    """One request got no answer; others may still get theirs."""


class EngineClosedError(NescioError):
    """The engine was closed or failed; it takes no more requests."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, as a model writes it: the tool's name, and its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one answer.

    Attributes:
        prompt: A conversation (a last assistant message is continued), or text that is used unchanged.
        guidance: None uses the prompt unchanged. Otherwise the positive sentence is added to the conversation's
            system message, and at scales other than 1 a negative branch is computed too.
        negative: Prompt of the negative branch, instead of the one with the negative sentence.
        adapter: Name of the adapter to attach; None attaches none. `default` is the one that the engine was loaded
            with, if any.
        max_tokens: Maximum number of new tokens.
        temperature: Sampling temperature; 0, and anything below 1e-5, is greedy.
        top_p: Nucleus of the guided distribution to sample from.
        top_k: Number of most likely tokens to sample from; 0 is all.
        seed: Seed of this request's own random generator.
        stop: Stop texts, or a single one; the answer ends before the first occurrence of one.
        logprobs: Number of most likely tokens to return at each position, with log-probabilities of the guided
            distribution before temperature. 0 returns the chosen token's alone, None returns nothing.
        tools: Functions that the model may call, as OpenAI's API describes them; the chat template shows them in both
            branches. The answer then keeps its special tokens, because some models mark calls by them.
        tool_choice: `auto`, `required`, or `{"type": "function", "function": {"name": …}}`.
        parallel_tool_calls: Whether one answer may hold several calls.
        response_format: OpenAI's `json_object` or `json_schema`; an engine here gives forbidden tokens no probability.
    """

    prompt: Prompt
    guidance: Guidance | None = None
    negative: Prompt | None = None
    _: KW_ONLY
    adapter: str | None = "default"
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | Mapping[str, Any] = "auto"
    parallel_tool_calls: bool = True
    response_format: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise NescioError("an empty prompt; give a text or at least one message")
        for prompt in (self.prompt, self.negative):
            _check_messages(prompt)
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
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


def _check_messages(prompt: Any) -> None:
    if prompt is None or isinstance(prompt, str):
        return
    for number, turn in enumerate(prompt, start=1):
        if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("role", "content")):
            raise NescioError(f"message {number}: must have a role and a content, both texts")


def check_plain(
    request: Request, who: str, adapters: Container[str | None] = (), more: Mapping[str, bool] | None = None
) -> None:
    """Refuse what an engine that answers in text alone can't do.

    Args:
        request: What is asked.
        who: Engine, as it stands before "can't guide".
        adapters: Names of adapters that it has.
        more: What else it can't do, and whether the request asks for it.

    Raises:
        NescioError: The request asks for any of it.
    """
    wrong = {
        "guide": request.guidance is not None,
        "attach adapters": request.adapter not in (None, "default") and request.adapter not in adapters,
        "return log-probabilities": request.logprobs is not None,
        "call tools or follow a schema": bool(request.tools or request.response_format),
    }
    for what, asked in (wrong | dict(more or {})).items():
        if asked:
            raise NescioError(f"{who} can't {what}")


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
        finish: `stop` (an end token or a stop text), `length` or `cancelled`.
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
    """One answer in progress: an engine's thread puts pieces in, another thread iterates over them.

    Args:
        on_cancel: Called by each `cancel`, in the caller's thread, to wake the engine.
    """

    def __init__(self, on_cancel: Callable[[], None] = lambda: None) -> None:
        self.cancelled = threading.Event()
        self._on_cancel = on_cancel
        self._pieces: SimpleQueue[Piece | Answer | NescioError] = SimpleQueue()
        self._end: Answer | NescioError | None = None

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
        self._pieces.put(piece)

    def end(self, result: Answer | NescioError) -> None:
        """End with the complete answer or an error (called by the engine)."""
        self._pieces.put(result)


@dataclass(frozen=True, slots=True)
class Scoring:
    """A continuation of a prompt to score, guided or not."""

    prompt: Prompt
    continuation: str
    guidance: Guidance | None = None
    adapter: str | None = "default"


class TooLongError(NescioError):
    """A request that fits only with a shorter answer.

    Attributes:
        tokens_left: Number of new tokens that fit after the prompt; below 1 the prompt itself is too long.
    """

    def __init__(self, message: str, tokens_left: int) -> None:
        super().__init__(message)
        self.tokens_left = tokens_left


class ContextExceededError(TooLongError):
    """Prompt and new tokens exceed the model's context."""

    def __init__(self, prompt_tokens: int, max_tokens: int, context: int) -> None:
        super().__init__(
            f"a prompt of {prompt_tokens} tokens and {max_tokens} new ones exceed the model's context of {context}; "
            "shorten one of them",
            context - prompt_tokens,
        )


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
                stream.end(NescioError(f"generating failed ({type(error).__name__}: {error})"))

        threading.Thread(target=answer, daemon=True).start()
        return stream

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        """Return the log-probability of each token of each continuation; an empty continuation has none.

        Raises:
            NescioError: An item that can't be scored, or an engine without likelihoods.
        """
        raise NescioError(f"{type(self).__name__} gives no likelihoods; use a torch or vllm engine")

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
        """Answer a conversation; options are the fields of `Request`."""
        return self.generate([Request(messages, guidance, **options)])[0].text

    def complete(self, prompt: str, guidance: Guidance | None = None, **options: Any) -> str:
        """Continue a text without the chat template; options are the fields of `Request`."""
        return self.generate([Request(prompt, guidance, **options)])[0].text

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
