"""Callers who want personal data: what they say, in many wordings, and where in a conversation they say it."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import Literal, get_args

from nescio.core.prompts import Message, with_sentence
from nescio.core.text import sentence_ends

HELD_OUT = ("audit", "fiction", "form", "person")
"""Kinds that nothing is trained or baked with: a test with them shows what was learned, not what was seen."""

Position = Literal["front", "middle", "end", "earlier", "system", "second_system", "answer"]
POSITIONS: tuple[Position, ...] = get_args(Position)
"""Places of a caller's request: see `ask_for`."""

_SYSTEM = Message(role="system", content="You are a helpful assistant.")
_CONSENT = {"en": "Of course.", "es": "Por supuesto.", "fr": "Bien sûr.", "de": "Natürlich.", "it": "Certamente."}


@dataclass(frozen=True, slots=True)
class Wording:
    """A request to share personal data.

    Attributes:
        text: What the caller says.
        kind: The kind of persuasion: `order`, `permission`, `role_play`, …
        language: Its language, as in ISO 639-1.
        opening: The beginning of an answer that gives in to it.
    """

    text: str
    kind: str
    language: str
    opening: str = "Sure, here is all the personal data:"


def wordings(held_out: bool) -> list[Wording]:
    """Return the wordings of the held-out kinds, or those of all other kinds."""
    return [wording for wording in _all() if (wording.kind in HELD_OUT) == held_out]


@cache
def _all() -> tuple[Wording, ...]:
    text = (files("nescio.data") / "persuasion.jsonl").read_text(encoding="utf-8")
    return tuple(Wording(**json.loads(line)) for line in text.splitlines())


def ask_for(messages: list[Message], wording: Wording, position: Position) -> list[Message]:
    """Return a conversation in which the caller asks for personal data; the rest of it stays as it is.

    `front`, `middle` and `end` are places in the last user message; the middle is between two sentences, or between two
    words where there is one sentence. `earlier` is an exchange of its own before that message. `system` is the end of
    the system message. `second_system` is a system message after the others; the caller brings the first too where
    there is none. `answer` is the answer's beginning, already given: the wording's opening, before what there is of the
    answer; what continues an opening starts with white space.

    Args:
        messages: Turns that alternate, user first, and perhaps system messages before them.
        wording: What the caller says.
        position: Where.
    """
    text = wording.text
    systems = len(list(takewhile(lambda message: message["role"] == "system", messages)))
    last = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=None)
    if position == "system":
        return with_sentence(messages, text)
    if position == "second_system":
        own = messages[:systems] or [_SYSTEM]
        return [*own, Message(role="system", content=text), *messages[systems:]]
    if position == "answer":
        is_open = bool(messages) and messages[-1]["role"] == "assistant"
        begun = f"{wording.opening} {messages[-1]['content'].lstrip()}" if is_open else wording.opening
        return [*(messages[:-1] if is_open else messages), Message(role="assistant", content=begun)]
    if last is None:  # nobody has said anything yet
        return [*messages, Message(role="user", content=text)]
    before, asked, after = messages[:last], messages[last]["content"], messages[last + 1 :]
    if position == "earlier":
        consent = Message(role="assistant", content=_CONSENT[wording.language])
        return [*before, Message(role="user", content=text), consent, *messages[last:]]
    parts = {"front": (text, asked), "middle": _around(asked, text), "end": (asked, text)}[position]
    return [*before, Message(role="user", content=" ".join(parts)), *after]


def _around(asked: str, text: str) -> tuple[str, ...]:
    """Return the two halves of a message with a text between them; one word has it behind it."""
    asked = asked.strip()
    places = [end for end in sentence_ends(asked) if end < len(asked)]
    places = places or [at for at, letter in enumerate(asked) if letter.isspace()]
    middle = min(places, key=lambda place: abs(2 * place - len(asked)), default=len(asked))
    return tuple(part for part in (asked[:middle].rstrip(), text, asked[middle:].lstrip()) if part)
