"""What an engine is asked: a request for an answer, or a continuation to score."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from math import isfinite
from numbers import Integral, Real
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message
from nescio.engines.errors import FieldError

Prompt = str | list[Message]
Tool = Mapping[str, Any]
"""A function that a model may call: `{"type": "function", "function": {"name", "description", "parameters"}}`."""

_WHOLE = ("max_tokens", "top_k", "seed")
_NUMBERS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty")


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
        min_p: Least probability of a token that is sampled, as a share of the likeliest token's.
        presence_penalty: Taken off the log-probability of each token that the answer has already.
        frequency_penalty: Taken off it as often as the answer has the token.
        logit_bias: Added to the log-probability of each of these tokens, by id. It and the penalties change the guided
            distribution, and give a token that a schema forbids no probability.
        seed: Seed of this request's own random generator.
        stop: Stop texts, or a single one; the answer ends before the first occurrence of one.
        logprobs: Number of most likely tokens to return at each position, with log-probabilities of the guided
            distribution before penalties, bias and temperature. 0 returns the chosen token's alone, None nothing.
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
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
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
        if self.guidance is not None and not isinstance(self.guidance, Guidance):
            raise NescioError(f"guidance {self.guidance!r}: must be a nescio.Guidance; give nescio.Guidance(scale=…)")
        self._check_types()
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        if self.negative is not None and (self.guidance is None or not self.guidance.guided):
            raise NescioError("a negative prompt without guidance; give a scale other than 1 with it")
        if self.max_tokens < 1:
            raise NescioError(f"max_tokens {self.max_tokens}: must be 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise NescioError(f"temperature {self.temperature}: must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            raise NescioError("top_p must lie in (0, 1] and top_k be 0 (all) or more")
        if not 0 <= self.min_p <= 1:
            raise NescioError(f"min_p {self.min_p}: must lie in [0, 1]")
        if not all(map(isfinite, (self.presence_penalty, self.frequency_penalty, *self.logit_bias.values()))):
            raise NescioError("presence_penalty, frequency_penalty and logit_bias must be finite numbers")
        if self.logprobs is not None and self.logprobs < 0:
            raise NescioError(f"logprobs {self.logprobs}: must be 0 or more, or left out")

    def _check_types(self) -> None:
        """Check types that decoding trusts: a wrong one would end the other requests of its batch, too."""
        for name in _WHOLE if self.logprobs is None else (*_WHOLE, "logprobs"):
            if type(value := getattr(self, name)) is not int:
                if isinstance(value, bool) or not isinstance(value, Integral):
                    raise NescioError(f"{name} {value!r}: must be a whole number; give one, or leave {name} out")
                object.__setattr__(self, name, int(value))  # NumPy's
        for name in _NUMBERS:
            if type(value := getattr(self, name)) is not float and not _is_number(value):
                raise NescioError(f"{name} {value!r}: must be a number; give one, or leave {name} out")
        if not isinstance(self.stop, Sequence) or not all(isinstance(text, str) for text in self.stop):
            raise NescioError(f"stop {self.stop!r}: must be a text or several; give them, or leave stop out")
        if not isinstance(self.logit_bias, Mapping) or not all(
            isinstance(token, Integral) and _is_number(bias) for token, bias in self.logit_bias.items()
        ):
            raise NescioError("logit_bias: must give a number for each token id; give {id: number}, or leave it out")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def asking(prompt: Prompt, guidance: Guidance | None, options: Mapping[str, Any]) -> Request:
    """Return a request with options by name.

    Raises:
        NescioError: An option is no field of a request, or has a wrong value.
    """
    known = [each.name for each in fields(Request)]
    if unknown := options.keys() - set(known):
        name = min(unknown)
        if name in {each.name for each in fields(Guidance)}:
            raise NescioError(f"{name}: is a setting of guidance; give guidance=nescio.Guidance({name}=…)")
        raise NescioError(f"{name}: is no option of a request; use one of {', '.join(known[2:])}")
    return Request(prompt, guidance, **options)


def check_bias(request: Request, vocabulary: int) -> None:
    """Check that each token of a request's bias is one of the vocabulary.

    Raises:
        FieldError: One is not.
    """
    for token in request.logit_bias:
        if not 0 <= token < vocabulary:
            message = f"logit_bias: the model has no token {token}; its ids end at {vocabulary - 1}"
            raise FieldError(message, "logit_bias")


@dataclass(frozen=True, slots=True)
class Scoring:
    """A continuation of a prompt to score, guided or not."""

    prompt: Prompt
    continuation: str
    guidance: Guidance | None = None
    adapter: str | None = "default"


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
