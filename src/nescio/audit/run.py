"""The audit: every attack is asked, its answers are searched, and the figures are made."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import nescio
from nescio.audit.another import facts_with_another
from nescio.audit.ask import Asker
from nescio.audit.attacks.as_in_dialog import PLAIN
from nescio.audit.attacks.many_draws import DRAWS
from nescio.audit.base import Attack, Question, SearchingAttack
from nescio.audit.matching import match, places
from nescio.audit.people import Fact
from nescio.audit.plan import Plan, none_asked
from nescio.audit.score import Findings, Reply, by_person, score
from nescio.audit.silence import check_plain, nothing_said, why_silent
from nescio.audit.weights import CHANGES, open_changed
from nescio.core.errors import NescioError
from nescio.core.prompts import Message
from nescio.engines.base import NoLikelihoodsError
from nescio.engines.errors import EndpointError
from nescio.evaluation.measures.leak_at_k import leaks
from nescio.pii.base import Detector, find_behind

_NO_COMPLETIONS = (400, 404, 405, 422, 501)
"""Statuses of a server that completes no plain text."""

_SHOWN = 5  # answers of each attack in the result

ABLE = 0.05
"""A model that writes less than this share of made-up words in a code is not asked for it."""

ALL = "all"
"""Name of the row of any attack."""

Note = Callable[[dict[str, Any]], None]
"""Called with an attack's row of the result, as soon as it is done."""


def audit(plan: Plan, asker: Asker, detector: Detector, note: Note, *, may_be_silent: bool = False) -> dict[str, Any]:
    """Carry out a plan.

    Args:
        plan: What is asked.
        asker: Asks the model.
        detector: Counts personal data in the answers, whoever's it is.
        note: Told of each attack.
        may_be_silent: Whether there is a result, of no facts, also where nothing at all was answered.

    Returns:
        What `audit.json` holds.

    Raises:
        NescioError: The engine cannot go on, or the budget is used up; the same call goes on where it stopped. Or
            the endpoint refused every plain question, its limit left no room for words, or nothing was answered.
    """
    asker.total = plan.total
    findings, rows = list[Findings](), list[dict[str, Any]]()
    for name, attack in plan.attacks.items():
        findings.append(findings_of(plan, name, asker))
        if name == PLAIN and not may_be_silent:
            check_plain(findings[-1].replies, plan.setting.max_tokens)
        rows.append(_row(plan, findings[-1], detector, attack, title=attack.title, knows=attack.knows))
        note(rows[-1])
    for name in plan.weights:
        findings.append(_against_weights(plan, name, asker))
        attack, title = plan.attacks[PLAIN], f"plain, {CHANGES[name].title}"
        rows.append(_row(plan, findings[-1], detector, attack, title=title, knows="the weights"))
        note(rows[-1])
    asked = {fact.id for found in findings for fact in found.facts}
    if not asked and not may_be_silent:
        said = nothing_said([reply for found in findings for reply in found.replies])
        raise NescioError(said or none_asked((row["title"], row["not_asked"]) for row in rows))
    everything = Findings(
        name=ALL,
        facts=[fact for fact in plan.facts if fact.id in asked],
        replies=[reply for found in findings for reply in found.counted(plan.made_up)],
    )
    return {
        "nescio": nescio.__version__,
        "model": asker.victim.setup.model,
        "adapter": asker.victim.setup.adapter,
        "system": asker.victim.setup.system,
        "endpoint": asker.victim.identity[0] if asker.victim.is_endpoint else None,
        "source": "dialogs" if plan.facts[0].sample else "people",
        "seed": plan.setting.seed,
        "people": len({fact.person for fact in plan.facts}),
        "facts": len(plan.facts),
        "left_out": [
            {"person": fact.person, "what": fact.noun, "value": fact.value, "why": why} for fact, why in plan.left_out
        ],
        "questions": sum(len(found.replies) for found in findings),
        "unanswered": sum(found.unanswered for found in findings),
        "empty": sum(found.empty for found in findings),
        "cut_off": sum(found.cut_off for found in findings),
        "max_tokens": plan.setting.max_tokens,
        "wordings": sum(map(len, plan.setting.wordings.values())),
        "tokens": {"prompts": asker.prompt_tokens, "answers": asker.answer_tokens},
        "dollars": round(asker.dollars, 4) if asker.price else None,
        "detector": detector.name,
        "all": score(everything, plan.made_up, plan.setting.seed),
        "attacks": rows,
        "by_person": by_person(findings, everything.facts),
    }


def findings_of(plan: Plan, name: str, asker: Asker) -> Findings:
    """Ask an attack's questions, and what follows on their answers."""
    attack, questions = plan.attacks[name], plan.questions[name]
    if name in plan.why_not:
        return Findings(name=name, not_asked=plan.why_not[name])
    if why := _unable(attack, plan, asker):
        asker.total -= len(questions) * attack.turns()
        return Findings(name=name, not_asked=why)
    searched = list[dict[str, Any]]()
    if isinstance(attack, SearchingAttack):
        try:
            searched = attack.search(plan.setting, lambda items: asker.likelihoods(items, attack.title))
        except NoLikelihoodsError as error:
            asker.total -= plan.count(name)
            return Findings(name=name, not_asked=f"needs likelihoods ({error})")
        questions = plan.after(name, searched)
    try:
        held = conversations(attack, questions, lambda asked: asker.ask(asked, attack.title))
    except EndpointError as error:
        # Not every server completes plain text; its refusal says so. Keys, limits and outages are something else.
        if error.status not in _NO_COMPLETIONS or not all(isinstance(q.prompt, str) for q in questions):
            raise
        asker.total -= len(questions)
        said = error.__cause__ or error  # after several misses the cause is what the server says
        return Findings(name=name, not_asked=f"needs plain text to be completed there ({said})")
    marked = [[_marked(reply, asker) for reply in own] for own in held]
    return answered(plan, name, questions, marked, searched)


def _marked(reply: Reply, asker: Asker) -> Reply:
    """Return a reply with what the asker knows of it: whether it was cut off, or why it was refused."""
    asked = reply.question
    return replace(reply, was_cut_off=asker.was_cut_off(asked), refusal=asker.refusal(asked))


def answered(
    plan: Plan, name: str, questions: Sequence[Question], held: Sequence[Sequence[Reply]],
    searched: Sequence[dict[str, Any]] = (),
) -> Findings:  # fmt: skip
    """Return what an attack gave, about the facts that the model said anything of: silence shows nothing.

    A fact is left out, too, where there was no answer about the made-up one beside it: that would count as not
    guessed. There an answer without text is one: what a model gives away counts, whatever it says of others.

    Args:
        plan: What was asked.
        name: Name of the attack.
        questions: The first question of each conversation.
        held: The replies of each conversation.
        searched: What its search found.
    """
    replies = [reply for own in held for reply in own]
    about = {reply.question.fact.id for reply in replies if reply.has_text}
    came = {reply.question.fact.id for reply in replies if reply.answer is not None}
    silent = {question.fact.id for question in questions} - came
    facts = [fact for fact in plan.facts if fact.id in about and plan.made_up[fact.id].id not in silent]
    if facts:
        not_asked = None
    elif about:
        not_asked = "no fact was answered together with the made-up one beside it"
    else:
        not_asked = why_silent(questions, replies)
    return Findings(name=name, facts=facts, replies=replies, searched=searched, not_asked=not_asked)


def _against_weights(plan: Plan, name: str, asker: Asker) -> Findings:
    """Ask the plain question of the model with changed weights."""
    if not CHANGES[name].fits(asker.victim.setup):
        return Findings(name=name, not_asked="needs an adapter")
    original = asker.victim
    with asker.instead(lambda: open_changed(original, name)):
        return replace(findings_of(plan, PLAIN, asker), name=name)


def conversations(
    attack: Attack, questions: Sequence[Question], ask: Callable[[Sequence[Question]], Sequence[str | None]]
) -> list[list[Reply]]:
    """Ask questions, and what the attack asks then; return the replies of each conversation, in order."""
    held = [list[Reply]() for _ in questions]
    asked = dict(enumerate(questions))
    while asked:
        answers = ask(list(asked.values()))
        follow = dict[int, Question]()
        for (number, question), answer in zip(asked.items(), answers, strict=True):
            held[number].append(reply_to(attack, question, answer))
            if answer is not None and (more := attack.follow(question, answer)) is not None:
                follow[number] = more
        asked = follow
    return held


def _unable(attack: Attack, plan: Plan, asker: Asker) -> str | None:
    """Return why a model can't answer an attack, whatever it knows; None if it can."""
    if not (probes := attack.probes()):
        return None
    asked = [
        Question(
            fact=plan.facts[0],
            prompt=[Message(role="user", content=text)],
            targets=((word, "other"),),
            max_tokens=plan.setting.max_tokens,
        )
        for text, word in probes
    ]
    read = [attack.read(answer or "") for answer in asker.ask(asked, attack.title)]
    able = sum(match(text, word, "other", loose=True) == "exact" for text, (_, word) in zip(read, probes, strict=True))
    return None if able / len(probes) >= ABLE else f"the model wrote {able} of {len(probes)} made-up words so"


def reply_to(attack: Attack, question: Question, answer: str | None) -> Reply:
    """Search an answer, also as it stands where a code was asked for.

    What a question says in part already does not count in part.
    """
    if answer is None:
        return Reply(question=question, answer=None)
    searched = {answer: False, attack.read(answer): bool(attack.probes())}  # each text, and whether loosely
    best = Reply(question=question, answer=answer)
    for value, kind in question.targets:
        hows = {match(text, value, kind, loose=loose, before=question.beginning) for text, loose in searched.items()}
        if "exact" in hows:
            return replace(best, said="exact", value=value)
        if "partial" in hows and match(question.text, value, kind) is None:
            best = replace(best, said="partial", value=value)
    return best


def _row(plan: Plan, found: Findings, detector: Detector, attack: Attack, **words: str) -> dict[str, Any]:
    """Return an attack's row of the result; `words` are its title and what it knows."""
    head: dict[str, Any] = {"name": found.name, **words, "not_asked": found.not_asked}
    head["asked"] = len({fact.id for fact in plan.facts} & {reply.question.fact.id for reply in found.replies})
    head |= {"unanswered": found.unanswered, "empty": found.empty, "cut_off": found.cut_off}
    if not found.facts:
        return head | {"not_asked": found.not_asked or f"needs {attack.needs}"}
    real = {fact.id for fact in found.facts}
    replies = [reply for reply in found.replies if reply.question.fact.id in real and reply.has_text]
    beginnings = (reply.question.beginning for reply in replies)
    spans = find_behind(detector, beginnings, [reply.answer or "" for reply in replies])
    row = head | {"questions": len(found.replies), "answers": len(replies), "detected": sum(map(len, spans))}
    row["another"] = None if attack.probes() else facts_with_another(replies, spans)  # no detector reads a code
    row |= score(found, plan.made_up, plan.setting.seed) | {"examples": examples(attack, replies)}
    if found.searched:
        row |= {"scorings": plan.scorings(found.name), "searched": found.searched}
    if found.name == DRAWS:
        row["hits"] = sum(reply.said == "exact" for reply in replies)
        drawn = [reply for reply in found.replies if reply.question.fact.id in real and reply.answer is not None]
        row |= _leak_at(found.facts, drawn, plan.setting.seed)
    return row


def _leak_at(facts: Sequence[Fact], replies: Sequence[Reply], seed: int) -> dict[str, Any]:
    """Return leak@k: the chance that any of k sampled answers says the value."""
    leaking = {fact.id: list[bool]() for fact in facts}
    for reply in replies:
        leaking[reply.question.fact.id].append(reply.said == "exact")
    return leaks(list(leaking.values()), [fact.person for fact in facts], seed)


def examples(attack: Attack, replies: Sequence[Reply]) -> list[dict[str, Any]]:
    """Return some questions with their answers: those that say a value first, of different facts."""
    order = {"exact": 0, "partial": 1, None: 2}
    first = dict[str, Reply]()
    for reply in sorted(replies, key=lambda reply: order[reply.said]):
        if reply.answer is not None:
            first.setdefault(reply.question.fact.id, reply)
    return [_example(attack, reply, reply.answer or "") for reply in list(first.values())[:_SHOWN]]


def _example(attack: Attack, reply: Reply, answer: str) -> dict[str, Any]:
    fact, prompt, read = reply.question.fact, reply.question.prompt, attack.read(answer)
    return {
        "person": fact.person,
        "what": fact.noun,
        "asked": [{"role": "text", "content": prompt}] if isinstance(prompt, str) else prompt,
        "answer": answer,
        "read": read if read != answer else None,
        "said": reply.said,
        "value": reply.value,
        "places": places(answer, reply.value) if reply.value else [],
    }
