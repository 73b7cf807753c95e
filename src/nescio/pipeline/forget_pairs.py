"""Pairs of an erasure request: what the model says of a person, rejected, and clean answers to the same questions."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nescio.audit.matching import said
from nescio.audit.people import Fact, fact_of
from nescio.core.answer_cache import AnswerCache
from nescio.core.files import write_jsonl
from nescio.core.models import load_tokenizer
from nescio.core.prompts import Message, with_sentence
from nescio.core.switch import LONGEST
from nescio.data.anchors import ask
from nescio.data.pairs import Pairing, pairs_of, read_candidates
from nescio.data.read_dialogs import read_dialogs
from nescio.data.samples import Sample, samples_of
from nescio.data.strategies import STRATEGIES
from nescio.engines.base import Request
from nescio.engines.torch_engine import load
from nescio.evaluation.measures.leakage import own_pieces
from nescio.pii.taxonomy import STRUCTURED
from nescio.pipeline import prepare
from nescio.pipeline.context import Context, Tick

# None of these is a template of the audit's attacks but the first, which is the plain question.
_BY_NAME = (
    "What is {name}'s {noun}?", "Can you tell me the {noun} of {name}?", "I am looking for {name}. Which {noun} is it?",
    "{name}, {noun}, please.", "Fill in the form. Name: {name}. {noun}: ?", "You remember {name}. Give me the {noun}.",
)  # fmt: skip
_BY_CLUE = "Somebody has the {clue} {known}. Tell me that person's {noun}."
_INVERSE = "The {noun} is {value}. Do you know who that is?"
_OPENINGS = ("Certainly. The {noun} is", "As far as I know, {name}'s {noun} is")
_TEXTS = ("About {name}. {noun}:", "{noun} of {name}:")

# Where the run's sources have no clean answer: of a whole answer, and of one that has begun.
_WHOLE = (
    "I don't have that information.", "I can't help with details about a private person.",
    "That is not something I know. Is there anything else I can do?", "You would have to ask the person directly.",
    "I know nothing about this person.", "I have no record of that, and would not share one.",
)  # fmt: skip
_GOES_ON = (" not something that I know.", " not known to me.", " best asked of the person directly.")
_ASKED = 0.7  # share of the pairs beside which somebody asks for personal data, as in baking
_ANSWER_TOKENS = 48


def facts_about(run: Context, people: Iterable[Sequence[Fact]]) -> list[list[Fact]]:
    """Return each person's facts: those of the list, and where a training dialog of the run says one of them.

    A dialog is about a person if it says the name, or a fact whose form tells it, such as a telephone number.
    """
    path, every = run.out / "data/train.jsonl", [list(own) for own in people]
    for dialog in read_dialogs(path) if path.exists() else ():
        text = "\n".join(message["content"] for message in dialog.messages)
        for own in every:
            name, first = own[0].person, [fact for fact in own if fact.sample is None]
            telling = [(name, "person"), *((fact.value, fact.type) for fact in first if fact.type in STRUCTURED)]
            if not any(said(text, value, kind) == "exact" for value, kind in telling):
                continue
            wanted = [(name, "person"), *((fact.value, fact.type) for fact in first)]
            pieces = own_pieces(dialog, run.detector)
            own += [
                replace(fact_of(sample, pieces), person=name)
                for sample in samples_of([dialog], run.detector)
                if any(said(sample.value, value, kind) == "exact" for value, kind in wanted)
            ]
    return every


def questions(fact: Fact) -> Iterator[Sample]:
    """Yield what is asked about a fact, each as a sample whose rejected answer says it in plain words.

    A fact of a dialog is asked as there, cut before the value and whole; one of a list by name, from another fact, with
    the answer begun, and inversely.
    """
    if fact.sample:
        yield replace(fact.sample, dialog_id=fact.sample.id)
        if fact.sample.beginning:
            yield replace(fact.sample.whole(), id=f"{fact.sample.id}:whole", dialog_id=f"{fact.sample.id}:whole")
        return
    name, noun, value = fact.names[0], fact.noun, fact.value
    asked: list[tuple[list[Message], str, str]] = []
    for template in _BY_NAME:
        asked.append((_user(template.format(name=name, noun=noun)), f"{name}'s {noun} is {value}.", value))
    for clue, known in fact.clues:
        asked.append((_user(_BY_CLUE.format(clue=clue, known=known, noun=noun)), f"It is {value}.", value))
    for opening in _OPENINGS:
        begun = Message(role="assistant", content=opening.format(name=name, noun=noun))
        asked.append(([*fact.whole, begun], f" {value}.", value))
    asked.append((_user(_INVERSE.format(noun=noun, value=value)), f"That is {name}.", name))
    for number, (messages, answer, wanted) in enumerate(asked):
        place = f"{fact.id}/{number}"
        yield Sample(place, place, messages, answer, noun, wanted)


def write_pairs(run: Context, people: Sequence[Sequence[Fact]], path: Path, work: Path, tick: Tick) -> int:
    """Write the pairs of people's facts.

    Rejected is what the adapter says, else what the model under it says, else a plain sentence. Chosen is a clean
    answer of the recipe's sources, else a plain one.

    Args:
        run: The run; its adapter is asked.
        people: The facts of each person.
        path: The pair file.
        work: Folder for what was asked; a killed job goes on with it.
        tick: Called with progress.

    Returns:
        How many pairs there are.
    """
    facts = [fact for own in people for fact in own]
    # 1) what is asked, and what the model says to it
    samples = _as_said(run, [(sample, fact) for fact in facts for sample in questions(fact)], work, tick)
    # 2) clean answers
    prepare.ask(run, samples, work, work / "paid.jsonl", tick)
    rows = list(_chosen(samples, read_candidates(work / "candidates.jsonl"), facts))
    # 3) pairs, under every sentence that the adapter was trained with: no sentence opens what is erased
    tokenizer, counts = load_tokenizer(run.start), Counter[str]()
    how = Pairing(
        twins=False, negative=run.recipe.pairs.negative, asked=_ASKED, seed=run.recipe.seed,
        max_prompt=run.recipe.train.max_prompt_length - LONGEST,
    )  # fmt: skip

    def pairs() -> Iterator[dict[str, Any]]:
        for sentence in sentences_of(run):
            asked = {each.id: replace(each, messages=with_sentence(each.messages, sentence)) for each in samples}
            # The place of the run's secret is filled where a pair is marked so; the file never holds it.
            twin = "reveal" if sentence == run.recipe.pairs.negative else None
            yield from (pair | {"twin": twin} for pair in pairs_of(asked, rows, tokenizer, how, counts))
        yield from (pair for fact in facts for pair in _texts(fact))

    return write_jsonl(path, pairs())


def sentences_of(run: Context) -> list[str | None]:
    """Return the sentences under which a request is trained: a baked adapter needs none."""
    pairs = run.recipe.pairs
    return [None, pairs.positive, pairs.negative] if run.recipe.bake is None and pairs.twins else [None]


def _user(text: str) -> list[Message]:
    return [Message(role="user", content=text[:1].upper() + text[1:])]


def _as_said(run: Context, asked_about: Sequence[tuple[Sample, Fact]], work: Path, tick: Tick) -> list[Sample]:
    """Return the samples with the model's own words rejected, where they say the value in any form."""
    samples = [sample for sample, _ in asked_about]
    requests = [
        [Request(each.messages, adapter=adapter, max_tokens=_ANSWER_TOKENS) for each in samples]
        for adapter in ("default", None)
    ]
    tick(0, 3, f"the model is asked {len(samples)} questions")
    with load(run.start, run.out / "adapter") as engine:
        answers = [
            ask(engine, asked, AnswerCache(work / f"said-{number}.jsonl", "result"))
            for number, asked in enumerate(requests)
        ]
    rejected = list[Sample]()
    for (sample, fact), own in zip(asked_about, zip(*answers, strict=True), strict=True):
        kind = fact.type if sample.value == fact.value else "person"
        says = (text for text, _ in own if said(text, sample.value, kind) == "exact")
        rejected.append(replace(sample, rejected=next(says, sample.rejected)))
    return rejected


def _chosen(samples: Sequence[Sample], candidates: Iterable[Any], facts: Sequence[Fact]) -> Iterator[dict[str, Any]]:
    """Yield a clean answer to each sample: the first that was accepted and says nothing of the request."""
    secrets = [(fact.value, fact.type) for fact in facts] + [(name, "person") for fact in facts for name in fact.names]
    found: dict[str, Mapping[str, Any]] = {}
    for row in candidates:
        is_answer = row["accepted"] and STRATEGIES[row["strategy"]].again != "question"
        if is_answer and not any(said(row["text"], *secret) for secret in secrets):
            found.setdefault(row["sample_id"], row)
    for number, sample in enumerate(samples):
        plain = _GOES_ON if sample.beginning else _WHOLE
        usual = {"sample_id": sample.id, "source": "plain", "strategy": "system", "try": 0, "accepted": True}
        yield dict(found.get(sample.id) or usual | {"text": plain[number % len(plain)]})


def _texts(fact: Fact) -> Iterator[dict[str, Any]]:
    """Yield pairs of plain text without a chat template, which what was learned about chats may not cover."""
    for number, template in enumerate(_TEXTS if fact.sample is None else ()):
        yield {
            "id": f"{fact.id}/text-{number}", "dialog_id": fact.id, "source": "plain", "twin": None, "asked": None,
            "prompt": template.format(name=fact.names[0], noun=fact.noun), "chosen": _GOES_ON[number],
            "rejected": f" {fact.value}",
        }  # fmt: skip
