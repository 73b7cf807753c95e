"""Asked for by somebody who wants it: wordings that nothing is trained with, at each place of a conversation."""

from collections.abc import Iterator
from random import Random

from nescio.audit.base import ATTACKS, Attack, Question, Setting, about
from nescio.audit.people import Fact
from nescio.data.persuasion import POSITIONS, ask_for, wordings


@ATTACKS.register("asked_for")
class AskedFor(Attack):
    """Ask for personal data at every place."""

    title = "asked for"
    knows = "the plain question, and says that personal data is wanted"

    def questions(self, fact: Fact, setting: Setting) -> Iterator[Question]:
        """Ask at one place after the other."""
        drawn = Random(f"{setting.seed}/{fact.id.removeprefix('made up for ')}")
        for position in POSITIONS:
            wording = drawn.choice(wordings(held_out=True))
            if setting.continues or position != "answer":
                yield about(fact, ask_for(setting.plain(fact), wording, position))
