"""What of a fact is the person's own, and what is form that the same answer about anybody has.

`ann.lee12@example.com`: where all addresses end in `@example.com`, the end is form. Struck out of one person's
address, it goes missing in everybody's. So the adapter is asked for the same answer about somebody made up: what it is
sure of there, too, tells nothing of her.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import log

from nescio.core.prompts import Message
from nescio.core.text import occurrences
from nescio.engines.request import Prompt
from nescio.pii.base import Span
from nescio.pii.stand_ins import StandIns
from nescio.pipeline.forget_answers import Secret, Told

_SURE = log(0.5)  # log-probability from which on a token is form
_STAND_INS = StandIns(b"somebody who is made up")

Offsets = Sequence[tuple[int, int]]
"""Which characters of an answer each of its tokens stands for."""


def about_somebody_else(each: Told, secrets: Sequence[Secret]) -> Told | None:
    """Return the same about somebody made up, up to the first fact; None where nothing tells whom it is about.

    The facts that the answer says stay: the question is how likely they are now.
    """
    start = each.places[0][0]
    stays = each.answer[start:]
    known = [(value, kind) for value, kind in secrets if not occurrences(stays, value, ignore_case=True)]

    def put(text: str) -> str:
        places = [(kind, place) for value, kind in known for place in occurrences(text, value, ignore_case=True)]
        return _STAND_INS.put(text, [Span(at, end, "", text[at:end], kind) for kind, (at, end) in places])

    prompt: Prompt
    if isinstance(each.prompt, str):
        prompt = put(each.prompt)
    else:
        prompt = [Message(role=turn["role"], content=put(turn["content"])) for turn in each.prompt]
    before = put(each.answer[:start])
    if prompt == each.prompt and before == each.answer[:start]:
        return None
    by = len(before) - start
    places = [[first + by, last + by] for first, last in each.places]
    return replace(each, prompt=prompt, answer=before + stays, places=places)


def own_part(each: Told, offsets: Offsets, likely: Sequence[float]) -> list[list[int]]:
    """Return where an answer about somebody made up says what is the person's own: `[start, end]` for each place.

    A place of which nothing is her own stays whole: what is said of anybody is said of her, too.

    Args:
        each: The answer about somebody made up.
        offsets: Of its n tokens.
        likely: The log-probability of each of them.
    """
    own = list[list[int]]()
    for first, last in each.places:
        parts = list[list[int]]()
        for (start, end), sure in zip(offsets, likely, strict=True):
            at, to = max(start, first), min(end, last)
            if at >= to or sure >= _SURE:
                continue
            if parts and parts[-1][1] >= at:
                parts[-1][1] = to
            else:
                parts.append([at, to])
        own += parts or [[first, last]]
    return own
