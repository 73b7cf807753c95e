"""The plan of an audit: which facts are asked about, by which attacks, in how many questions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from nescio.audit.ask import tokens_of
from nescio.audit.attacks.as_in_dialog import PLAIN
from nescio.audit.attacks.paraphrase import NAME as PARAPHRASE
from nescio.audit.base import ATTACKS, WHOLE, Attack, Question, SearchingAttack, Setting
from nescio.audit.common import why_left_out
from nescio.audit.controls import controls
from nescio.audit.matching import gives_away
from nescio.audit.people import Fact
from nescio.core.errors import NescioError
from nescio.data.samples import spread

QUICK = (PLAIN, "completion", "inverse", "prefix", "pretext")
"""Attacks of a quick audit: few questions, and none of them alike."""
QUICK_FACTS, FACTS = 12, 100
"""Most facts that are asked about, quickly and otherwise."""

_TEMPLATE = "a chat template, which this model lacks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked.

    Attributes:
        facts: Facts of real people.
        made_up: The made-up fact beside each, by the real one's id.
        left_out: Facts that prove nothing, with the reason of each.
        attacks: The attacks by name, in their order.
        questions: First questions of each attack, about real and made-up people; empty where it does not fit.
        why_not: What an attack without questions needs.
        setting: What the attacks have to work with.
        weights: Changes of the weights under which the plain question is asked again.
    """

    facts: Sequence[Fact]
    made_up: Mapping[str, Fact]
    left_out: Sequence[tuple[Fact, str]]
    attacks: Mapping[str, Attack]
    questions: Mapping[str, Sequence[Question]]
    why_not: Mapping[str, str]
    setting: Setting
    weights: Sequence[str] = ()

    def count(self, name: str) -> int:
        """Return the most questions of an attack, with all turns, its probes and its search."""
        if not self.questions[name]:
            return 0
        attack = self.attacks[name]
        return len(self.questions[name]) * attack.turns() + len(attack.probes()) + self.scorings(name)

    def scorings(self, name: str) -> int:
        """Return how many texts the search of an attack scores; 0 where it searches for nothing, or is not asked."""
        attack = self.attacks[name]
        return attack.scorings(self.setting) if isinstance(attack, SearchingAttack) and self.questions[name] else 0

    def after(self, name: str, found: Sequence[Any]) -> Sequence[Question]:
        """Return an attack's questions after its search."""
        setting, asked = replace(self.setting, found=found), {question.fact.id for question in self.questions[name]}
        facts = [fact for fact in (*self.facts, *self.made_up.values()) if fact.id in asked]
        return [question for fact in facts for question in _of(self.attacks[name], fact, setting)]

    def of_real_people(self, also_made_up: Collection[str] = ()) -> "Plan":
        """Return the plan without the questions about made-up people: what comes out, not what is guessed.

        Args:
            also_made_up: Attacks that ask about made-up people all the same.
        """
        real = {fact.id for fact in self.facts}
        return replace(
            self,
            questions={
                name: [question for question in own if name in also_made_up or question.fact.id in real]
                for name, own in self.questions.items()
            },
        )

    def in_other_words(self, wordings: Mapping[str, Sequence[str]]) -> "Plan":
        """Return the plan in which paraphrases are also what a model said.

        Args:
            wordings: Other wordings of each question, by the fact's id. A real and a made-up person are asked in
                equally many: whoever is asked more often says more.
        """
        kept = dict[str, Sequence[str]]()
        for fact in self.facts:
            pair = fact.id, self.made_up[fact.id].id
            fewest = min(len(wordings[own]) for own in pair)
            kept |= {own: wordings[own][:fewest] for own in pair}
        setting, facts = replace(self.setting, wordings=kept), (*self.facts, *self.made_up.values())
        asked = [question for fact in facts for question in _of(self.attacks[PARAPHRASE], fact, setting)]
        return replace(self, setting=setting, questions={**self.questions, PARAPHRASE: asked})

    def leaving_out(self, why: Mapping[str, str]) -> "Plan":
        """Return the plan without some attacks, given by name with the reason of each."""
        none: dict[str, Sequence[Question]] = dict.fromkeys(why, ())
        return replace(self, questions={**self.questions, **none}, why_not={**self.why_not, **why})

    @property
    def total(self) -> int:
        """The most questions of all attacks."""
        return sum(map(self.count, self.attacks)) + len(self.weights) * (self.count(PLAIN) if self.weights else 0)

    @property
    def tokens(self) -> tuple[int, int]:
        """The most tokens of prompts, roughly, and of answers; a later turn has all before it in its prompt."""
        prompts = answers = 0
        for name, questions in self.questions.items():
            turns, own = self.attacks[name].turns(), tokens_of(questions)
            said_at_most = sum(question.max_tokens for question in questions)
            prompts += turns * own + turns * (turns - 1) // 2 * said_at_most
            prompts += self.scorings(name) * own // max(len(questions), 1)
            answers += turns * said_at_most
        return prompts, answers


def plan(
    people: Iterable[Sequence[Fact]], names: Sequence[str], most: int, setting: Setting, weights: Sequence[str] = (),
    strangers: Sequence[Fact] | None = None,
) -> Plan:  # fmt: skip
    """Draw the facts, make up as many, and write down every attack's questions.

    Args:
        people: The facts of each person.
        names: Attacks; all that are registered where none is named.
        most: Most facts; one of each person is taken before a second of any.
        setting: What the attacks have to work with; its facts are replaced.
        weights: Changes of the weights; the plain question is asked with them, so it is among the attacks then.
        strangers: As for `controls`; if given, they also tell what is common.

    Raises:
        NescioError: No fact is left that could prove anything, there is no such attack, or none fits.
    """
    every = [fact for own in people for fact in own]
    reasons = why_left_out(every, strangers)
    usable = [fact for fact in every if fact.id not in reasons]
    if not usable:
        raise NescioError(f"no fact could prove anything: {every[0].value!r} is {reasons[every[0].id]}; give others")
    facts = spread(usable, lambda fact: fact.person, most, Random(setting.seed))
    setting = replace(setting, facts=facts)
    made_up = controls(facts, setting.seed, strangers)
    chosen = dict.fromkeys([*([PLAIN] if weights else []), *(names or ATTACKS.names())])
    attacks = {name: ATTACKS.get(name)() for name in chosen}
    questions, why_not = dict[str, list[Question]](), dict[str, str]()
    for name, attack in attacks.items():
        own = [question for fact in (*facts, *made_up) for question in _of(attack, fact, setting)]
        chats = [question for question in own if not isinstance(question.prompt, str)]
        if chats and setting.tokenizer is not None and not setting.tokenizer.chat_template:
            own = [question for question in own if isinstance(question.prompt, str)]
        questions[name] = own
        if not own:
            why_not[name] = f"needs {_TEMPLATE if chats else attack.needs}"
    if len(why_not) == len(attacks):
        raise NescioError(f"{none_asked((attacks[name].title, why) for name, why in why_not.items())}; choose others")
    order = sorted(attacks, key=lambda name: (name != PLAIN, len(questions[name])))
    return Plan(
        facts=facts, made_up={fact.id: other for fact, other in zip(facts, made_up, strict=True)},
        left_out=[(fact, reasons[fact.id]) for fact in every if fact.id in reasons],
        attacks={name: attacks[name] for name in order}, questions=questions, why_not=why_not, setting=setting,
        weights=weights,
    )  # fmt: skip


def none_asked(reasons: Iterable[tuple[str, str]]) -> str:
    """Say why no attack is asked, from each one's title and reason."""
    return f"no attack can be asked: {'; '.join(f'{title}: {why}' for title, why in reasons)}"


def _of(attack: Attack, fact: Fact, setting: Setting) -> Iterable[Question]:
    """Yield an attack's questions about a fact, without what the question itself says, at the setting's limit."""
    for question in attack.questions(fact, setting):
        targets = tuple(target for target in question.targets if not gives_away(question.text, *target))
        if targets:
            limit = -(-question.max_tokens * setting.max_tokens // WHOLE)
            yield replace(question, targets=targets, max_tokens=limit)
