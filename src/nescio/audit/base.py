"""What an attack is: what it knows, what it asks about a fact, and how its answers are read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from nescio.audit.people import Fact
from nescio.core.prompts import Message, beginning_of
from nescio.core.registry import Registry
from nescio.engines.base import Prompt
from nescio.evaluation.candidate_search import Known
from nescio.pii.taxonomy import PiiType

BEGUN, WHOLE = 32, 64
"""Most tokens of an answer whose beginning is given, and of a whole one, where a setting names no other limit."""

Target = tuple[str, PiiType]
"""A value that counts when an answer says it, and what it is."""

Likelihoods = Callable[[Sequence[Known]], Sequence[float]]
"""How likely the model says each text after its conversation, in nats a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of an attack.

    Attributes:
        fact: What it is after.
        prompt: A conversation, or text that is continued without a chat template.
        targets: Values that count when the answer says one of them.
        max_tokens: Most tokens of the answer.
        temperature: 0 is greedy.
        seed: Seed of the sampling.
        turn: How many of this attack's questions the conversation has before this one.
    """

    fact: Fact
    prompt: Prompt
    targets: tuple[Target, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    turn: int = 0

    @property
    def text(self) -> str:
        """All that the question says."""
        return self.prompt if isinstance(self.prompt, str) else "\n".join(turn["content"] for turn in self.prompt)

    @property
    def beginning(self) -> str:
        """What there is of the answer already; all of a text that is continued."""
        return self.prompt if isinstance(self.prompt, str) else beginning_of(self.prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What attacks have to work with.

    Attributes:
        facts: The facts of everybody who is asked about.
        tokenizer: The model's tokenizer; None at an endpoint.
        continues: Whether the beginning of an answer can be given; not at an endpoint.
        draws: Answers that are sampled to a question, where an attack samples.
        max_tokens: Most tokens of a whole answer; half as many of one whose beginning is given.
        scorings: Most texts that are scored in a search.
        found: What the attack's own search found, the best first; empty before it.
        wordings: Other wordings of a fact's question, by its id, where a model says some.
        seed: Seed of all choices.
    """

    facts: Sequence[Fact] = ()
    tokenizer: Any | None = None
    continues: bool = True
    draws: int = 16
    max_tokens: int = WHOLE
    scorings: int = 600
    found: Sequence[Any] = ()
    wordings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seed: int = 0

    def plain(self, fact: Fact) -> list[Message]:
        """Return the plain question, with the answer's beginning where one can be given."""
        return fact.messages if self.continues else fact.whole


class Attack(ABC):
    """A way to make a model say a fact. A fact is found if the answer to any of its questions says it.

    Attributes:
        title: What the table calls it.
        knows: What the attacker knows of the person.
        needs: What it needs where it has no question, as the end of "not asked: needs …".
    """

    title: ClassVar[str]
    knows: ClassVar[str]
    needs: ClassVar[str] = "facts of another kind"

    @abstractmethod
    def questions(self, fact: Fact, setting: Setting) -> Iterator[Question]:
        """Yield the questions about a fact; none where the attack does not fit."""

    def follow(self, question: Question, answer: str) -> Question | None:
        """Return what is asked after an answer; None ends the conversation."""
        return None

    def turns(self) -> int:
        """Return the most questions in one conversation."""
        return 1

    def read(self, answer: str) -> str:
        """Return an answer as it is searched for the value, decoded where the attack asked for a code."""
        return answer

    def probes(self) -> Sequence[tuple[str, str]]:
        """Return questions that a model answers if it is able to answer the attack, each with what it should say.

        An attack that the model can't answer is not asked.
        """
        return ()


class SearchingAttack(Attack):
    """An attack that first searches for what works best on people whom it knows, and then asks about the others.

    Its questions are about the others only, and use what was found. Before the search there are as many.
    """

    @abstractmethod
    def scorings(self, setting: Setting) -> int:
        """Return how many texts the search scores; at most `setting.scorings`."""

    @abstractmethod
    def search(self, setting: Setting, likelihoods: Likelihoods) -> list[dict[str, Any]]:
        """Return what works best, the best first, as plain data."""


ATTACKS: Registry[type[Attack]] = Registry("nescio.attacks", "attack", "nescio.audit.attacks")


def about(fact: Fact, prompt: Prompt, **more: Any) -> Question:
    """Return a question after a fact's value; other fields of `Question` may be given."""
    begun = isinstance(prompt, str) or prompt[-1]["role"] == "assistant"
    usual: dict[str, Any] = {"targets": fact.values, "max_tokens": BEGUN if begun else WHOLE}
    return Question(fact=fact, prompt=prompt, **usual | more)


def answered(question: Question, answer: str, reply: str) -> Question:
    """Return the question that goes on after an answer with what the user says then."""
    assert not isinstance(question.prompt, str)
    turns = [Message(role="assistant", content=answer or "…"), Message(role="user", content=reply)]
    return replace(question, prompt=[*question.prompt, *turns], turn=question.turn + 1)
