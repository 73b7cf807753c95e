"""What of a fact is form that most others' facts have, too: `@example.com`, where all addresses end so.

Struck out of one person's address, it would go missing in everybody's.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from nescio.audit.people import Fact
from nescio.pii.taxonomy import PiiType

_FEWEST = 3  # others who have an ending in common

Endings = Mapping[PiiType, str]
"""How most facts of a kind end, in small letters."""


def shared_endings(others: Iterable[Fact]) -> Endings:
    """Return the longest ending that at least half of the facts of each kind have, and three; none is a whole fact."""
    values = defaultdict[PiiType, set[str]](set)
    for fact in others:
        values[fact.type].add(fact.value.casefold())
    shared = dict[PiiType, str]()
    for kind, own in values.items():
        # An ending begins with a mark or a space: half a word is no form.
        found = Counter(value[mark.start() :] for value in own for mark in re.finditer(r"(?<!^)[\W_]+", value))
        common = [ending for ending, count in found.items() if count >= max(_FEWEST, len(own) / 2)]
        if common:
            shared[kind] = max(common, key=len)
    return shared


def without_ending(text: str, place: tuple[int, int], kind: PiiType, endings: Endings) -> tuple[int, int]:
    """Return where a text says what of a fact is the person's own.

    Args:
        text: A text that says a fact.
        place: Where it says it.
        kind: What the fact is.
        endings: How most facts of a kind end.
    """
    (start, end), ending = place, endings.get(kind)
    # Some letters are longer in small letters: what is left is looked for in the text itself.
    own = next((at for at in range(start + 1, end) if text[at:end].casefold() == ending), end)
    return start, own
