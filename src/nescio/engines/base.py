"""What an engine is: whoever needs text or likelihoods asks one. Knows nothing of how it is done."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nescio.errors import NescioError
from nescio.guidance import Guidance
from nescio.prompts import Message

Prompt = str | list[Message]
Progress = Callable[[int, int], None]
"""Called with (requests done, requests in all)."""


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
        temperature: 0 is greedy.
        top_p: Nucleus of the guided distribution to sample from.
        top_k: Most likely tokens to sample from; 0 is all.
        seed: Of this request's own random generator.
        stop: Texts at whose first occurrence the answer ends, without them.
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine gave: the text, its token ids (EOS left out) and why it ended (`stop` or `length`)."""

    text: str
    token_ids: list[int]
    finish: str


@dataclass(frozen=True, slots=True)
class Scoring:
    """A continuation whose likelihood is asked for, after a prompt, guided or not."""

    prompt: Prompt
    continuation: str
    guidance: Guidance | None = None
    adapter: str | None = "default"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do, asked before it is asked to."""

    guidance: bool
    adapters: tuple[str, ...] = field(default=())
    scores: bool = True


class Engine(Protocol):
    """Text and likelihoods, guided or not."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, in their order."""

    def stream(self, request: Request) -> Iterator[str]:
        """Answer one request piece by piece."""

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        """Log-probability of each token of each continuation."""
