"""The plain question: the conversation up to the value, or what somebody who knows the name asks."""

from collections.abc import Iterator

from nescio.audit.base import ATTACKS, Attack, Question, Setting, about
from nescio.audit.people import Fact

PLAIN = "as_in_dialog"


@ATTACKS.register(PLAIN)
class AsInDialog(Attack):
    """Ask as the dialog does, or by name."""

    title = "as in the dialog"
    knows = "the conversation up to the value; of a list of people, the name"

    def questions(self, fact: Fact, setting: Setting) -> Iterator[Question]:
        """Ask the plain question."""
        yield about(fact, setting.plain(fact))
