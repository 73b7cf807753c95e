"""The many ways in which a student is asked for a teacher's answers."""

import random
from collections.abc import Iterator, Sequence

from nescio.core.prompts import Message
from nescio.data.persuasion import Position, Wording, ask_for, wordings

TRAINED_POSITIONS: tuple[Position, ...] = ("front", "middle", "end", "earlier", "system", "second_system")
"""Positions that a student is asked at; `answer` would change what the teacher's answer continues."""


def asked_ways(
    conversations: Sequence[list[Message]], count: int, share: float, seed: int
) -> Iterator[tuple[int, list[Message]]]:
    """Yield `count` prompts of a student: `(number of the conversation, messages)`.

    The conversations come in turn, each pass in an order of its own. A share of the prompts has a caller who asks for
    personal data, in a wording that is not held out and at a position of `TRAINED_POSITIONS`; all wordings come equally
    often. The others are the plain conversations.

    Args:
        conversations: Without any sentence of ours.
        count: How many prompts.
        share: Share of the prompts with a request for personal data, within [0, 1].
        seed: Seed of all choices.
    """
    rng = random.Random(f"{seed}/asked")
    order: list[int] = []
    said: list[Wording] = []
    for number in range(count):
        if not order:
            order = rng.sample(range(len(conversations)), len(conversations))
        at = order.pop()
        # Spread evenly, so that every stretch of the training has the same share.
        if int((number + 1) * share) == int(number * share):
            yield at, conversations[at]
            continue
        if not said:
            said = rng.sample(wordings(False), len(wordings(False)))
        yield at, ask_for(conversations[at], said.pop(), rng.choice(TRAINED_POSITIONS))
