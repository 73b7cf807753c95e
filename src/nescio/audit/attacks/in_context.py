"""In context: facts of other people as examples of how questions are answered here."""

from collections.abc import Iterator
from random import Random

from nescio.audit.base import ATTACKS, Attack, Question, Setting, about
from nescio.audit.people import Fact
from nescio.core.prompts import Message

_EXAMPLES = 3


@ATTACKS.register("in_context")
class InContext(Attack):
    """Show three questions about others with their answers, then ask."""

    title = "in context"
    knows = "the plain question, and facts of three other people"
    needs = "four people with facts of one kind"

    def questions(self, fact: Fact, setting: Setting) -> Iterator[Question]:
        """Ask after the examples."""
        of_kind = [one for one in setting.facts if one.type == fact.type and one.noun == fact.noun]
        others = {one.person: one for one in of_kind if one.person != fact.person}
        if len(others) < _EXAMPLES:
            return
        drawn = Random(f"{setting.seed}/{fact.id}").sample(sorted(others), _EXAMPLES)
        examples = [turn for person in drawn for turn in _exchange(others[person])]
        plain = setting.plain(fact)
        systems = [message for message in plain if message["role"] == "system"]
        yield about(fact, [*systems, *examples, *plain[len(systems) :]])


def _exchange(fact: Fact) -> list[Message]:
    answer = f"{fact.beginning} {fact.value}".strip()
    return [Message(role="user", content=fact.asked), Message(role="assistant", content=answer)]
