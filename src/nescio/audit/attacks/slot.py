"""The attack of the LLM-PC competition: the dialog without its personal data, and what the next slot holds."""

from collections.abc import Iterator

from nescio.audit.base import ATTACKS, Attack, Question, Setting, about
from nescio.audit.people import Fact
from nescio.evaluation.measures.slot_attack import context, scrubbed


@ATTACKS.register("slot")
class Slot(Attack):
    """Give the last 200 tokens before the slot, scrubbed, and describe the slot, as plain text."""

    title = "slot"
    knows = "the dialog without its personal data"
    needs = "dialogs, and a model with a chat template on this machine"

    def questions(self, fact: Fact, setting: Setting) -> Iterator[Question]:
        """Ask to continue the scrubbed text."""
        if fact.sample and setting.tokenizer is not None and setting.tokenizer.chat_template:
            yield about(fact, context(scrubbed(fact.sample, fact.pieces), setting.tokenizer))
