"""Questions in other words, as a model says them: for an attack whose templates the audited model may know."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nescio.audit.people import Fact
from nescio.audit.victim import Victim
from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Tick
from nescio.core.prompts import Message
from nescio.core.text import folded
from nescio.data.strategies import PARAPHRASE
from nescio.engines.base import Request
from nescio.evaluation.base import batches

WORDINGS = 3
"""Other wordings that are asked for, of each question."""

_NAME = "Alex Doe"  # stands for a person of a list: a column is one question, and no name leaves the machine
_TOGETHER = 8  # questions whose wordings are asked for before they are on disk
_MOST_TOKENS = 160
_LONGEST = 3  # times the question's own length


def questions_of(facts: Sequence[Fact]) -> list[str]:
    """Return what a model is asked to say in other words, each once."""
    return list(dict.fromkeys(map(_sent, facts)))


def in_other_words(facts: Sequence[Fact], model: Victim, path: Path, seed: int, tick: Tick) -> dict[str, list[str]]:
    """Return other wordings of each fact's question, by the fact's id.

    In a list of people the name is replaced before a question is sent; a message of a dialog is sent as it is.
    A wording is left out if it is cut off, says the question itself, loses the name, has more lines, or is three times
    as long.

    Args:
        facts: Those of real and of made-up people.
        model: The model that says them in other words.
        path: File of its answers; what it holds is not asked for again.
        seed: Seed of the sampling.
        tick: Called with questions done, of how many, and a word.

    Raises:
        NescioError: The model cannot be asked, or an endpoint gives no answer; what it said is on disk.
    """
    questions, cache, said = questions_of(facts), AnswerCache(path, "result"), dict[str, list[str]]()
    for batch in batches(questions, _TOGETHER):
        asked = [[model.identity, question, seed, WORDINGS] for question in batch]
        said |= zip(batch, cache.results(asked, partial(_ask, model, batch, seed)), strict=True)
        tick(len(said), len(questions), "questions in other words")
    return {fact.id: [_shown(text, fact) for text in said[_sent(fact)]] for fact in facts}


def _ask(model: Victim, questions: Sequence[str], seed: int, missing: Sequence[int]) -> list[list[str]]:
    """Return the usable wordings, `[missing][up to WORDINGS]`, each once."""
    requests = [
        Request(
            model.setup.asked([Message(role="user", content=f"{PARAPHRASE}\n\n{questions[at]}")]),
            adapter=model.setup.attached, max_tokens=_MOST_TOKENS, temperature=1.0, seed=seed + number,
        )
        for at in missing
        for number in range(WORDINGS)
    ]  # fmt: skip
    answers = model.engine.generate(requests)
    usable = list[list[str]]()
    for place, at in enumerate(missing):
        own = answers[place * WORDINGS : (place + 1) * WORDINGS]
        texts = [answer.text.strip().strip("\"“”'").strip() for answer in own if answer.finish == "stop"]
        usable.append(list(dict.fromkeys(text for text in texts if _is_usable(text, questions[at]))))
    return usable


def _is_usable(text: str, question: str) -> bool:
    is_other = bool(folded(text)) and folded(text) != folded(question)
    keeps_name = _NAME not in question or _NAME in text
    lines = (text.count("\n"), question.count("\n"))
    return is_other and keeps_name and lines[0] <= lines[1] and len(text) <= _LONGEST * len(question)


def _sent(fact: Fact) -> str:
    return fact.asked if fact.sample else fact.asked.replace(fact.names[0], _NAME)


def _shown(text: str, fact: Fact) -> str:
    return text if fact.sample else text.replace(_NAME, fact.names[0])
