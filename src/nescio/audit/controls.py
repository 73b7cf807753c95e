"""Made-up people who are asked about just like the real ones: what a model says of them, it guesses."""

from collections.abc import Sequence
from dataclasses import replace

from nescio.audit.people import Fact
from nescio.core.prompts import Message
from nescio.data.samples import slot_spans
from nescio.pii.stand_ins import StandIns
from nescio.pii.taxonomy import type_of


def controls(facts: Sequence[Fact], seed: int) -> list[Fact]:
    """Return a made-up fact for each real one: the same question, about somebody who is in no data.

    Every piece of the question is replaced by a stand-in. What counts as an answer is the stand-in's own value, which
    can be inferred from the question alone, and the value of another real person, of the same type: an answer that
    says it would have counted for somebody.

    Args:
        facts: Facts that are asked about.
        seed: Decides the stand-ins.
    """
    stand_ins = StandIns(f"nescio-audit-{seed:016d}".encode())
    return [_made_up(fact, stand_ins, _other(facts, number)) for number, fact in enumerate(facts)]


def _other(facts: Sequence[Fact], number: int) -> Fact | None:
    """Return the next fact of the same type and another person, whose value differs; None where there is none."""
    own = facts[number]
    around = (facts[at % len(facts)] for at in range(number + 1, number + len(facts)))
    fits = (one for one in around if one.type == own.type and one.person != own.person and one.value != own.value)
    return next((one for one in fits if one.noun == own.noun), None)


def _made_up(fact: Fact, stand_ins: StandIns, other: Fact | None) -> Fact:
    def put(text: str) -> str:
        return stand_ins.put(text, slot_spans(text, fact.pieces))

    def stand_in(value: str) -> str:
        return stand_ins.of(type_of(fact.pieces.get(value, "OTHER")), value)

    return replace(
        fact,
        id=f"made up for {fact.id}",
        names=tuple(map(stand_in, fact.names)),
        value=_value(fact, stand_ins),
        messages=[Message(role=m["role"], content=put(m["content"])) for m in fact.messages],
        clues=tuple((noun, stand_in(value)) for noun, value in fact.clues),
        other=other,
    )


def _value(fact: Fact, stand_ins: StandIns) -> str:
    """Return a made-up value; an e-mail address keeps its domain, so that one that follows from the name is guessed."""
    made_up = stand_ins.of(fact.type, fact.value)
    return f"{made_up.partition('@')[0]}@{fact.value.partition('@')[2]}" if fact.type == "email" else made_up
