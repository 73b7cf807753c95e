"""People and their facts: from a list of people, or from the dialogs that hold their data."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nescio.audit.compared import cannot_compare, compared
from nescio.audit.people_table import cell_text, people_rows
from nescio.core.errors import NescioError
from nescio.core.prompts import Message, beginning_of
from nescio.core.text import folded
from nescio.data.read_dialogs import read_dialogs
from nescio.data.samples import Sample, samples_of
from nescio.data.strategies import last_question, with_question
from nescio.evaluation.measures.leakage import own_pieces
from nescio.pii.base import Detector
from nescio.pii.dates import is_date
from nescio.pii.regex_detector import RegexDetector
from nescio.pii.taxonomy import PiiType, type_of, type_of_column, type_of_date

_NOUNS: dict[PiiType, str] = {
    "person": "name", "organisation": "organisation", "place": "place", "address": "address", "phone": "phone number",
    "email": "e-mail address", "url": "web address", "ip": "IP address", "birth_date": "date of birth", "date": "date",
    "age": "age", "national_id": "national identity number", "licence": "licence number", "card": "card number",
    "account": "account number", "secret": "password", "medical": "medical record number", "money": "amount",
}  # fmt: skip
_NO_CLUES: tuple[PiiType, ...] = ("person", "other")
_TIME = re.compile(r"[T ]\d{1,2}:\d{2}.*\Z")  # behind a date
_CLUES = 2  # other facts of the same person that an attack may start from


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A piece of personal data that an attack is after.

    Attributes:
        id: Unique: person and column, or dialog, message and character.
        person: Who it is about, or the dialog that it is from; facts of one are not independent.
        names: Names of the person, or of the people in the dialog.
        noun: What it is, in a word: `phone number`.
        type: What it is, in the taxonomy.
        value: The piece itself.
        messages: The plain question: the conversation up to the value; a last assistant message is the answer's
            beginning.
        clues: Other facts of the same person: noun and value.
        sample: Where a dialog says it; None for a list of people.
        pieces: All that is known of the person or the dialog: value and label.
        other: What counts besides the value where the person is made up: the values of a real one. See `controls`.
    """

    id: str
    person: str
    names: tuple[str, ...]
    noun: str
    type: PiiType
    value: str
    messages: list[Message]
    clues: tuple[tuple[str, str], ...] = ()
    sample: Sample | None = None
    pieces: Mapping[str, str] = field(default_factory=dict)
    other: "Fact | None" = None

    @property
    def asked(self) -> str:
        """The last thing that the user says."""
        return last_question(self.messages)

    @property
    def beginning(self) -> str:
        """What there is of the answer."""
        return beginning_of(self.messages)

    @property
    def whole(self) -> list[Message]:
        """The plain question without the answer's beginning."""
        return self.messages[:-1] if self.beginning else self.messages

    def asked_as(self, text: str) -> list[Message]:
        """Return the conversation with another last message of the user, and no beginning of the answer."""
        return with_question(self.whole, text)

    @property
    def values(self) -> tuple[tuple[str, PiiType], ...]:
        """What counts as an answer: the value; of a made-up person also that of a real one."""
        return tuple((fact.value, fact.type) for fact in (self, self.other) if fact is not None)

    @property
    def people(self) -> tuple[tuple[str, PiiType], ...]:
        """What counts as an answer to who it is."""
        return tuple((name, "person") for fact in (self, self.other) if fact is not None for name in fact.names)


# -- a list of people -------------------------------------------------------------------------------------------------


def read_people(path: Path) -> Iterator[list[Fact]]:
    """Read a list of people, and yield the facts of each.

    Args:
        path: CSV with a header, or JSON lines: `name`, and a column for each fact. An empty cell is not known.

    Raises:
        NescioError: A row has no name or no facts, a name stands there twice with other facts, or a value could not be
            found in any answer: file, line and column are named.
    """
    seen: dict[str, tuple[int, dict[str, str]]] = {}
    for number, row in people_rows(path):
        place = f"{path}:{number}"
        if not isinstance(row, dict):
            raise NescioError(f"{place}: not a JSON object; give a name and the person's facts")
        if "messages" in row:
            raise NescioError(f"{place}: is a conversation; give a file of conversations as --dialogs")
        known = {column: text for column, value in row.items() if (text := cell_text(value, f"{place}: {column}"))}
        column = next((column for column in known if column.strip().casefold() == "name"), None)
        if column is None:
            raise NescioError(f"{place}: name: missing or empty; every person needs one")
        name = known.pop(column)
        if not known:
            raise NescioError(f"{place}: {name!r} has no facts; give at least one column beside name, or leave it out")
        same = folded(compared(name, "person"))
        if before := seen.get(same):
            if before[1] == known:
                continue
            raise NescioError(f"{place}: {name!r} stands at line {before[0]} already; tell the two apart, or join them")
        seen[same] = number, known
        facts = list(_facts(name, known))
        for fact, column in zip(facts, known, strict=True):
            if why := cannot_compare(fact.value, fact.type):
                raise NescioError(f"{place}: {column}: {fact.value!r} is {why}")
        yield facts
    if not seen:
        raise NescioError(f"{path}: holds no people; give a header with name and facts, and a line for each person")


def _type(noun: str, value: str) -> PiiType:
    """Return the type that a column's whole name tells, else the form of its value, else the last words of the name."""
    if (kind := type_of(noun)) != "other":
        return kind
    bare = _TIME.sub("", value)
    form = _form(noun, bare) or ("phone" if _form(noun, compared(value, "phone")) == "phone" else None)
    if form is None and re.fullmatch(r"\d{5}|(?:19|20)\d{6}", value) and _is_born(noun):
        form = "birth_date"
    return form or ("date" if is_date(bare) else type_of_column(noun))


def _is_born(noun: str) -> bool:
    """Whether a column's name says that it holds dates of birth."""
    return type_of_date(f"{noun}: 1", len(noun) + 2, len(noun) + 3) == "birth_date"


def _form(noun: str, value: str) -> PiiType | None:
    """Return the type that the form of a whole value tells."""
    text = f"{noun}: {value}"  # the name tells a date of birth from others, and an order's number from a telephone's
    place = len(text) - len(value), len(text)
    (found,) = RegexDetector().find([text])
    return next((span.type for span in found if (span.start, span.end) == place), None)


def _facts(name: str, known: Mapping[str, str]) -> Iterator[Fact]:
    nouns = {column: " ".join(column.replace("_", " ").split()) for column in known}
    types = {column: _type(nouns[column], value) for column, value in known.items()}
    said = compared(name, "person")
    for column, value in known.items():
        yield Fact(
            id=f"{name}/{column}", person=name, names=(said,), noun=nouns[column], type=types[column], value=value,
            messages=[Message(role="user", content=f"What is {said}'s {nouns[column]}?")],
            clues=tuple((nouns[other], own) for other, own in known.items() if other != column)[:_CLUES],
            pieces={said: "NAME"} | {own: types[column].upper() for column, own in known.items()},
        )  # fmt: skip


# -- dialogs ----------------------------------------------------------------------------------------------------------


def facts_of_dialogs(source: Path, detector: Detector) -> Iterator[list[Fact]]:
    """Read dialogs, and yield the facts of each: the personal data in its assistant turns, each once.

    Raises:
        NescioError: A row is wrong, or no dialog has any.
    """
    dialogs = list(read_dialogs(source))
    samples = defaultdict[str, list[Sample]](list)
    for sample in samples_of(dialogs, detector):
        samples[sample.dialog_id].append(sample)
    if not samples:
        raise NescioError(
            f"{source}: no assistant turn holds personal data; record it as pii, or use another --detector"
        )
    for dialog in dialogs:
        if own := samples.get(dialog.id):
            yield list(_said_in(own, own_pieces(dialog, detector)))


def _said_in(samples: Sequence[Sample], pieces: Mapping[str, str]) -> Iterator[Fact]:
    seen = set[str]()
    for sample in samples:
        if sample.value.casefold() not in seen:
            seen.add(sample.value.casefold())
            yield fact_of(sample, pieces)


def fact_of(sample: Sample, pieces: Mapping[str, str]) -> Fact:
    """Return the fact that a sample is cut before.

    Args:
        sample: A dialog's sample.
        pieces: The dialog's own pieces of personal data, each with its slot or label.
    """
    types = {value: type_of(label) for value, label in pieces.items()}
    kind = types.get(sample.value) or type_of(sample.label)
    others = [(_noun(other), own) for own, other in types.items() if own != sample.value and other not in _NO_CLUES]
    return Fact(
        id=sample.id, person=sample.dialog_id, names=tuple(own for own, other in types.items() if other == "person"),
        noun=_noun(kind), type=kind, value=sample.value, messages=sample.messages, clues=tuple(others[:_CLUES]),
        sample=sample, pieces=pieces,
    )  # fmt: skip


def _noun(kind: PiiType) -> str:
    return _NOUNS.get(kind, "detail")
