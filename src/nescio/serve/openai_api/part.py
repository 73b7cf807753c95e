"""A part of an answer: what the answer threads pass on and the converters turn into bodies and events."""

from dataclasses import dataclass

from nescio.engines.base import TokenLogprob
from nescio.pii.base import Span
from nescio.serve.openai_api.response_bodies import Finish


@dataclass(frozen=True, slots=True)
class Part:
    """A part of one choice that may be sent; the last part has a `finish`.

    Attributes:
        index: Index of the choice.
        text: Text, checked if there is an output filter.
        spans: Personal data in it, in characters of everything sent of this choice.
        logprobs: One for each token, if asked for and not filtered.
        finish: Why the choice ended.
    """

    index: int
    text: str = ""
    spans: tuple[Span, ...] = ()
    logprobs: list[TokenLogprob] | None = None
    finish: Finish | None = None
