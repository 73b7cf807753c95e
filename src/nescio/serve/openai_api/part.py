"""A part of an answer, which the converters turn into bodies and events."""

import secrets
import string
from dataclasses import dataclass

from nescio.engines.base import TokenLogprob
from nescio.pii.base import Span
from nescio.serve.checker import Treated
from nescio.serve.openai_api.response_bodies import Finish


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool.

    Attributes:
        index: Place among the calls of the choice.
        id: Made here, whatever the engine calls it.
        name: Name of the tool.
        arguments: JSON, checked if there is an output filter.
        spans: Personal data in the arguments.
    """

    index: int
    id: str
    name: str
    arguments: str
    spans: tuple[Treated, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of one choice that may be sent; the last part has a `finish`.

    Attributes:
        index: Index of the choice.
        text: Text, checked if there is an output filter.
        calls: Calls of tools, checked likewise.
        spans: Personal data in the text, in characters of everything sent of this choice.
        logprobs: One for each token, if asked for and not filtered.
        finish: Why the choice ended.
        withheld: Personal data of text that the audit stopped; counted, not sent.
    """

    index: int
    text: str = ""
    spans: tuple[Treated, ...] = ()
    calls: tuple[Call, ...] = ()
    logprobs: list[TokenLogprob] | None = None
    finish: Finish | None = None
    withheld: tuple[Span, ...] = ()

    @property
    def found(self) -> list[Span]:
        """All personal data of the part, in its text, in its calls, and what was withheld."""
        return [*self.spans, *(span for call in self.calls for span in call.spans), *self.withheld]


def new_id() -> str:
    """Return an id for a call of a tool: nine letters and digits, the form that Mistral's chat template insists on."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))
