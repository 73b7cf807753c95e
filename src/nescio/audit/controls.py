"""Made-up people who are asked about just like the real ones: what a model says of them, it guesses."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from nescio.audit.people import Fact
from nescio.core.prompts import Message
from nescio.data.samples import slot_spans
from nescio.pii.stand_ins import StandIns
from nescio.pii.taxonomy import type_of


def controls(facts: Sequence[Fact], seed: int, strangers: Sequence[Fact] | None = None) -> list[Fact]:
    """Return a made-up fact for each real one: the same question, about somebody who is in no data.

    Every piece of the question is replaced by a stand-in. What counts as an answer is the stand-in's own value, which
    can be inferred from the question alone, and the value of another real person, of the same type: an answer that
    says it would have counted for somebody.

    Args:
        facts: Facts that are asked about.
        seed: Decides the stand-ins.
        strangers: Facts of the other real people; None: those that are asked about. Where these are to be forgotten
            together, a model that gives one's value to anybody has forgotten neither: give people who stay.
    """
    stand_ins = StandIns(f"nescio-audit-{seed:016d}".encode())
    others, before = facts if strangers is None else strangers, Counter[tuple[str, str]]()
    made_up = []
    for fact in facts:
        made_up.append(_made_up(fact, stand_ins, _other(fact, before[_kind(fact)], others)))
        before[_kind(fact)] += 1
    return made_up


def _kind(fact: Fact) -> tuple[str, str]:
    """Return what two facts share if one may stand for the other: the type, and the noun where the type tells nothing.

    A dialog's nouns are not those of a list: "phone number" and "mobile" are both telephone numbers.
    """
    return fact.type, fact.noun if fact.type == "other" else ""


def _other(own: Fact, number: int, strangers: Sequence[Fact]) -> Fact | None:
    """Return another person's fact of the same kind, if possible with another value, then of the same noun; else None.

    Args:
        own: The real fact.
        number: Facts of its kind before it. Each gets the next stranger: the value of one who stood for all would
            decide alone what is guessed.
        strangers: Facts of other people.
    """
    fits = [one for one in strangers if _kind(one) == _kind(own) and one.person != own.person]
    ranks = [(one.value == own.value, one.noun != own.noun) for one in fits]
    least = min(ranks, default=None)
    best = [one for one, rank in zip(fits, ranks, strict=True) if rank == least]
    return best[number % len(best)] if best else None


def _made_up(fact: Fact, stand_ins: StandIns, other: Fact | None) -> Fact:
    # A stand-in can be said and written: of a piece of no known type, made-up words.
    labels = {piece: "PERSON" if type_of(label) == "other" else label for piece, label in fact.pieces.items()}

    def put(text: str) -> str:
        return stand_ins.put(text, slot_spans(text, labels))

    def stand_in(value: str) -> str:
        return stand_ins.of(type_of(labels.get(value, "PERSON")), value)

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
    made_up = stand_ins.of("person" if fact.type == "other" else fact.type, fact.value)
    return f"{made_up.partition('@')[0]}@{fact.value.partition('@')[2]}" if fact.type == "email" else made_up
