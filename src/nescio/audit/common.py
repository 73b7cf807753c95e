"""Facts that prove nothing: too common, too short, said in the question, or in a form that nothing is compared with."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.resources import files

from nescio.audit.compared import cannot_compare, why_unread
from nescio.audit.matching import gives_away
from nescio.audit.people import Fact
from nescio.core.text import SYLLABLES
from nescio.pii.taxonomy import STRUCTURED

_SHORTEST, _FEWEST_DIGITS = 3, 4  # letters and digits of a value; digits of a number
_FEWEST_SYLLABLES = 2  # characters of a value in Han, Kana or Hangul
_SHARED, _SHARE = 3, 0.1  # people that may have one value: two, or a tenth
_EVERYDAY = frozenset(files("nescio.audit").joinpath("everyday.txt").read_text(encoding="utf-8").split())


def why_left_out(facts: Iterable[Fact], others: Iterable[Fact] | None = None) -> Mapping[str, str]:
    """Return the facts that are not asked about, by their ids, with the reason of each.

    Args:
        facts: Facts that may be asked about.
        others: Facts of people who are not asked about. They tell what is common: a family that asks to be forgotten
            shares a number. What has a form of its own is asked for then, and so is an address. None: the facts tell.
    """
    facts = list(facts)
    known = facts if others is None else list(others)
    people, holders = {fact.person for fact in known}, defaultdict[str, set[str]](set)
    for fact in known:
        holders[fact.value.casefold()].add(fact.person)

    def sharing(fact: Fact) -> int:
        is_own = others is not None and (fact.type in STRUCTURED or fact.type == "address")
        return 0 if is_own else len(holders.get(fact.value.casefold(), ()))

    asked = f"{len(people)}{'' if others is None else ' others'}"
    most = max(_SHARED, _SHARE * len(people))
    return {
        fact.id: why
        for fact in facts
        if (why := _why(fact, f"the same for {sharing(fact)} of {asked}" if sharing(fact) >= most else None))
    }


def _why(fact: Fact, shared: str | None) -> str | None:
    plain = re.sub(r"[\W_]", "", unicodedata.normalize("NFC", fact.value))
    if len(plain) < (_FEWEST_SYLLABLES if SYLLABLES.fullmatch(plain) else _SHORTEST):
        return "too short"
    if plain.isdecimal() and len(plain) < _FEWEST_DIGITS:
        return "a number of under four digits"
    if all(word in _EVERYDAY for word in re.findall(r"[^\W_]+", fact.value.casefold())):
        return "an everyday word"
    if why := cannot_compare(fact.value, fact.type) or why_unread(fact.value, fact.type) or shared:
        return why
    if any(gives_away(message["content"], fact.value, fact.type) for message in fact.messages):
        return "said in the question"
    return None
