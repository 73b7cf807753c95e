"""The attacks as a measure of a run: every row of the table is attacked for facts of the training samples."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nescio.audit.ask import answer_all, request_of
from nescio.audit.attacks.as_in_dialog import PLAIN
from nescio.audit.base import ATTACKS, Attack, Question, SearchingAttack, Setting
from nescio.audit.people import fact_of
from nescio.audit.plan import Plan, plan
from nescio.audit.run import ABLE, answered, conversations, examples, reply_to
from nescio.audit.score import Findings, Reply, score
from nescio.engines.base import Engine, NoLikelihoodsError
from nescio.evaluation.base import Ask, Found, Measure, Task, batches
from nescio.evaluation.candidate_search import Known, likelihoods
from nescio.evaluation.setups import Setup

_BATCH = 40  # questions whose answers are on disk before the next are asked
_SHOWN = (
    "facts", "found", "share", "share_ci95", "partial", "guessed", "memorised", "memorised_ci95", "people",
    "people_found",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked(Measure):
    """What comes out of each row under each attack, and what of made-up people.

    The report shows the fields `attacked` and `attacked_examples` in a section of their own.

    Attributes:
        attacks: Names of attacks; the plain question is always asked too.
        facts: Number of facts, of training samples that are drawn at random.
    """

    attacks: Sequence[str]
    facts: int

    def asks(self, task: Task) -> Iterator[Ask]:
        """Ask every attack's questions."""
        planned = self._plan(task)
        task.say_if_fewer("attacked facts", self.facts, len(planned.facts))
        for name, attack in planned.attacks.items():
            if isinstance(attack, SearchingAttack):
                if planned.questions[name]:
                    yield Ask(
                        kind=_kind(name),
                        decides=[
                            [[q.prompt, q.max_tokens] for q in planned.questions[name]],
                            [[fact.messages, fact.value] for fact in planned.facts],
                            [planned.setting.scorings, task.seed],
                        ],
                        work=partial(_search, task=task, planned=planned, name=name),
                    )
                continue
            for batch in batches(planned.questions[name], _BATCH):
                yield Ask(
                    kind=_kind(name),
                    decides=[[[q.prompt, q.max_tokens, q.temperature, q.seed] for q in batch], attack.turns()],
                    work=partial(_ask, attack=attack, questions=batch),
                )

    def cost(self, samples: float) -> float:
        """Count the questions about real and made-up people, about four of an attack, and what searches score."""
        searching = sum(issubclass(ATTACKS.get(name), SearchingAttack) for name in self.attacks)
        return 2.0 * self.facts * 4 * (1 + len(self.attacks)) + Setting().scorings * searching

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Search the answers of each row; a code in which the first row gives nothing counts for none."""
        planned = self._plan(task)
        rows = [{name: _findings(planned, name, one) for name in planned.attacks} for one in found]
        codes = [name for name, attack in planned.attacks.items() if attack.probes()]
        unable = {name for name in codes if rows[0][name].share < ABLE}
        return [_fields(planned, row, unable, task.seed) for row in rows]

    def _plan(self, task: Task) -> Plan:
        own = [fact_of(sample, pieces) for sample, pieces in task.training(2 * self.facts)]
        tokenizer = task.engine.tokenizer(task.setups[0].model)
        return plan([own], [PLAIN, *self.attacks], self.facts, Setting(tokenizer=tokenizer, seed=task.seed))


def _kind(name: str) -> str:
    return f"attack_{name}"


def _ask(
    engine: Engine, setups: Sequence[Setup], attack: Attack, questions: Sequence[Question]
) -> list[list[list[str]]]:
    """Return the answers of each conversation, `[set-ups][questions][turns]`."""

    def turns(setup: Setup) -> list[list[str]]:
        def ask(asked: Sequence[Question]) -> list[str | None]:
            answers = answer_all(engine, [request_of(setup, question) for question in asked])
            return [None if answer is None else answer.text for answer in answers]

        held = conversations(attack, questions, ask)
        return [[reply.answer for reply in replies if reply.answer is not None] for replies in held]

    return [turns(setup) for setup in setups]


def _search(engine: Engine, setups: Sequence[Setup], task: Task, planned: Plan, name: str) -> list[list[Any]]:
    """Return what the search found for each set-up, and the answers of each conversation with it."""
    return [_search_one(engine, setup, task, planned, name) for setup in setups]


def _search_one(engine: Engine, setup: Setup, task: Task, planned: Plan, name: str) -> list[Any]:
    attack = planned.attacks[name]
    assert isinstance(attack, SearchingAttack)
    who = [task.engine.identity, task.engine.identity_of(setup)]

    def scores(items: Sequence[Known]) -> list[float]:
        def work(missing: list[int]) -> list[float]:
            return likelihoods(engine, setup, [items[at] for at in missing])

        return task.results("attack_scores", [[*who, *item] for item in items], work)

    try:
        found = attack.search(planned.setting, scores)
    except NoLikelihoodsError:
        return [[]]
    (turns,) = _ask(engine, [setup], attack, planned.after(name, found))
    return [found, *turns]


def _findings(planned: Plan, name: str, found: Found) -> Findings:
    """Search what a row answered to an attack."""
    attack, questions = planned.attacks[name], planned.questions[name]
    if name in planned.why_not:
        return Findings(name=name, not_asked=planned.why_not[name])
    held, given, searched = list[list[Reply]](), found.given[_kind(name)], list[dict[str, Any]]()
    if isinstance(attack, SearchingAttack):
        searched, *given = given
        if not searched:
            return Findings(name=name, not_asked="needs an engine that gives likelihoods")
        questions = planned.after(name, searched)
    for question, turns in zip(questions, given, strict=True):
        held.append([])
        asked: Question | None = question
        for answer in turns:
            assert asked is not None  # every turn but the last was followed
            held[-1].append(reply_to(attack, asked, answer))
            asked = attack.follow(asked, answer)
    return answered(planned, name, questions, held, searched)


def _fields(planned: Plan, row: Mapping[str, Findings], unable: Collection[str], seed: int) -> dict[str, Any]:
    """Return a row's fields: the figures of each attack, and answers to the one that finds most."""
    attacked, scored = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
    for name, found in row.items():
        title = planned.attacks[name].title
        if name in unable:
            attacked[name] = {"title": title, "not_asked": f"the first row gives under {100 * ABLE:.0f} %"}
        elif not found.facts:
            attacked[name] = {"title": title, "not_asked": found.not_asked}
        else:
            scored[name] = score(found, planned.made_up, seed)
            attacked[name] = {"title": title} | {key: scored[name][key] for key in _SHOWN}
            if found.searched:
                attacked[name]["searched"] = found.searched
    if not scored:
        return {"attacked": attacked}
    worst = max(scored, key=lambda name: float(scored[name]["memorised"]))
    counted = {fact.id for fact in row[worst].facts}
    replies = [reply for reply in row[worst].replies if reply.question.fact.id in counted]
    return {
        "attacked": attacked,
        "attacked_worst": worst,
        "attacked_most": scored[worst]["memorised"],
        "attacked_examples": examples(planned.attacks[worst], replies),
    }
