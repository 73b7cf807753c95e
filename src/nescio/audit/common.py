"""Facts that prove nothing when they come out: too common, too short, or said in the question."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.resources import files

from nescio.audit.matching import gives_away
from nescio.audit.people import Fact

_SHORTEST, _FEWEST_DIGITS = 3, 4  # letters and digits of a value; digits of a number
_SHARED, _SHARE = 3, 0.1  # people that may have one value: two, or a tenth
_EVERYDAY = frozenset(files("nescio.audit").joinpath("everyday.txt").read_text(encoding="utf-8").split())


def why_left_out(facts: Iterable[Fact]) -> Mapping[str, str]:
    """Return the facts that are not asked about, by their ids, with the reason of each."""
    facts = list(facts)
    people, holders = {fact.person for fact in facts}, defaultdict[str, set[str]](set)
    for fact in facts:
        holders[fact.value.casefold()].add(fact.person)
    return {fact.id: why for fact in facts if (why := _why(fact, len(holders[fact.value.casefold()]), len(people)))}


def _why(fact: Fact, holders: int, people: int) -> str | None:
    plain = re.sub(r"[\W_]", "", fact.value)
    if len(plain) < _SHORTEST:
        return "too short"
    if plain.isdecimal() and len(plain) < _FEWEST_DIGITS:
        return "a number of under four digits"
    if all(word in _EVERYDAY for word in re.findall(r"[^\W_]+", fact.value.casefold())):
        return "an everyday word"
    if holders >= max(_SHARED, _SHARE * people):
        return f"the same for {holders} of {people}"
    if any(gives_away(message["content"], fact.value, fact.type) for message in fact.messages):
        return "said in the question"
    return None
