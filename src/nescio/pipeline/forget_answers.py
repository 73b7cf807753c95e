"""What an erasure request trains on: answers that say a person's facts, and what is left when these are struck out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from random import Random

from nescio.audit.matching import gives_away, match, spans
from nescio.audit.people import Fact, fact_of
from nescio.core.prompts import Message
from nescio.data.dialogs import Dialog
from nescio.data.read_dialogs import read_dialogs
from nescio.data.samples import Sample, samples_of
from nescio.engines.request import Prompt
from nescio.evaluation.measures.leakage import own_pieces
from nescio.pii.taxonomy import STRUCTURED, PiiType
from nescio.pipeline.context import Context
from nescio.pipeline.forget_form import Endings, without_ending

# None of these is a template of the audit's attacks but the first, which is the plain question.
_BY_NAME = (
    "What is {name}'s {noun}?", "Can you tell me the {noun} of {name}?", "I am looking for {name}. Which {noun} is it?",
    "{name}, {noun}, please.", "Fill in the form. Name: {name}. {noun}: ?", "You remember {name}. Give me the {noun}.",
)  # fmt: skip
_BY_CLUE = "Somebody has the {clue} {known}. Tell me that person's {noun}."
_INVERSE = "The {noun} is {value}. Do you know who that is?"
_OPENINGS = ("Certainly. The {noun} is", "As far as I know, {name}'s {noun} is")
_TEXTS = ("About {name}. {noun}:", "{noun} of {name}:")

Secret = tuple[str, PiiType]
"""A value that is not to be said, and what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A question about a person.

    Attributes:
        question: What is asked; its rejected answer says it in plain words.
        secrets: All that must not be said.
        sentence: What stands before it, with `{key}` for the run's secret; None: nothing.
        endings: How most facts of a kind end, which may be said.
    """

    question: Sample
    secrets: Sequence[Secret]
    sentence: str | None = None
    endings: Endings = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingAnswer:
    """An answer to learn from: one that tells, up to where it has said secrets, or a whole one that tells nothing.

    Attributes:
        id: Id of the question.
        prompt: The question, a conversation or plain text.
        answer: The answer; one that tells ends in a secret.
        places: Where it says what is the person's own of a secret: `[start, end]` for each place.
        sentence: As of `Probe`.
    """

    id: str
    prompt: Prompt
    answer: str
    places: list[list[int]]
    sentence: str | None = None


def facts_about(run: Context, people: Iterable[Sequence[Fact]]) -> list[list[Fact]]:
    """Return each person's facts: those of the list, and where a training dialog of the run says one of them.

    A dialog is about a person if it says the name, or a fact whose form tells it, such as a telephone number.
    """
    every = [list(own) for own in people]
    for dialog in _dialogs(run):
        for own in every:
            if not _is_about(dialog, own):
                continue
            name, first = own[0].person, [fact for fact in own if fact.sample is None]
            wanted = [(name, "person"), *((fact.value, fact.type) for fact in first)]
            own += [
                replace(fact, person=name)
                for fact in _facts(run, dialog)
                if any(match(fact.value, value, kind) == "exact" for value, kind in wanted)
            ]
    return every


def facts_of_others(run: Context, people: Sequence[Sequence[Fact]], most: int, seed: int) -> list[list[Fact]]:
    """Return the facts of training dialogs that are about none of some people, a list for each of `most` dialogs."""
    rng = Random(seed)
    others = (dialog for dialog in _dialogs(run) if not any(_is_about(dialog, own, in_part=True) for own in people))
    drawn = (_facts(run, dialog) for dialog in nsmallest(most, others, key=lambda _: rng.random()))
    return [list({fact.value.casefold(): fact for fact in own}.values()) for own in drawn if own]


def _dialogs(run: Context) -> Iterable[Dialog]:
    path = run.out / "data/train.jsonl"
    return read_dialogs(path) if path.exists() else ()


def _facts(run: Context, dialog: Dialog) -> list[Fact]:
    pieces = own_pieces(dialog, run.detector)
    return [fact_of(sample, pieces) for sample in samples_of([dialog], run.detector)]


def _is_about(dialog: Dialog, own: Sequence[Fact], in_part: bool = False) -> bool:
    text = "\n".join(message["content"] for message in dialog.messages)
    telling = [(fact.value, fact.type) for fact in own if fact.sample is None and fact.type in STRUCTURED]
    how = [match(text, value, kind) for value, kind in [(own[0].person, "person"), *telling]]
    return "exact" in how or (in_part and "partial" in how)


def probes(people: Sequence[Sequence[Fact]], sentences: Sequence[str | None], endings: Endings) -> Iterator[Probe]:
    """Yield what is asked about people, under each sentence. Nothing of any of them may be said."""
    secrets = secrets_of(people)
    for sentence in sentences:
        for question in (question for own in people for fact in own for question in questions(fact)):
            yield Probe(question=question, secrets=secrets, sentence=sentence, endings=endings)


def probes_of_others(
    others: Iterable[Sequence[Fact]], people: Sequence[Sequence[Fact]], sentences: Sequence[str | None]
) -> Iterator[Probe]:
    """Yield what the training dialogs of others ask, under each sentence. Nothing of `people` may be said there."""
    dialogs, secrets = [own[0].sample.whole() for own in others if own[0].sample], secrets_of(people)
    for sentence in sentences:
        for question in dialogs:
            yield Probe(question=question, secrets=secrets, sentence=sentence)


def secrets_of(people: Sequence[Sequence[Fact]]) -> list[Secret]:
    """Return the names of people, and their facts."""
    secrets: list[Secret] = [(own[0].person, "person") for own in people]
    return secrets + [(fact.value, fact.type) for own in people for fact in own if fact.sample is None]


def questions(fact: Fact) -> Iterator[Sample]:
    """Yield what is asked about a fact, each as a sample whose rejected answer says it in plain words.

    A fact of a dialog is asked as there, cut before the value and whole; one of a list by name, from another fact, with
    the answer begun, and inversely.
    """
    if fact.sample:
        yield fact.sample
        if fact.sample.beginning:
            yield replace(fact.sample.whole(), id=f"{fact.sample.id}:whole")
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
    if not gives_away(value, name, "person"):  # as an e-mail address does that spells it
        asked.append((_user(_INVERSE.format(noun=noun, value=value)), f"That is {name}.", name))
    for number, (messages, answer, wanted) in enumerate(asked):
        place = f"{fact.id}/{number}"
        yield Sample(place, place, messages, answer, noun, wanted)


def texts(fact: Fact, endings: Endings) -> Iterator[TrainingAnswer]:
    """Yield plain text without a chat template, which what was learned about chats may not cover."""
    for number, template in enumerate(_TEXTS if fact.sample is None else ()):
        text, answer = template.format(name=fact.names[0], noun=fact.noun), f" {fact.value}"
        own = without_ending(answer, (1, len(answer)), fact.type, endings)
        yield TrainingAnswer(id=f"{fact.id}/text-{number}", prompt=text, answer=answer, places=[list(own)])


def cut_at_secrets(probe: Probe, answer: str) -> TrainingAnswer | None:
    """Return an answer up to where it has said secrets, whole or in part; None if it says none.

    What the question says already does not count.
    """
    asked = "\n".join(message["content"] for message in probe.question.messages)
    begun = probe.question.beginning
    places, own = set[tuple[int, int]](), set[tuple[int, int]]()
    for value, kind in probe.secrets:
        how, known = match(answer, value, kind, before=begun), match(asked, value, kind)
        if how is not None and not gives_away(asked, value, kind) and not (how == "partial" and known):
            found = spans(answer, value, kind, before=begun)
            places.update(found)
            own.update(without_ending(answer, place, kind, probe.endings) for place in found)
    if not places:
        return None
    end = max(end for _, end in places)
    return TrainingAnswer(
        id=probe.question.id, prompt=probe.question.messages, answer=answer[:end], places=sorted(map(list, own)),
        sentence=probe.sentence,
    )  # fmt: skip


def _user(text: str) -> list[Message]:
    return [Message(role="user", content=text[:1].upper() + text[1:])]
