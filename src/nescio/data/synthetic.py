"""Made-up dialogs that leak: people talk with an assistant, and both use names, places and addresses.

As in LLM-PC, each piece of personal data is the value of a slot (NAME-1, LOC-2 ...). The sentences are in
`patterns.yaml`; people are drawn here, from Faker's names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from math import gcd
from random import Random
from typing import Any

import yaml

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.data.samples import slot_spans
from nescio.pii.base import mask

_LENGTH_WEIGHTS = (45, 30, 15, 10)  # of 1, 2, 3 and 4 exchanges
_PLAIN, _TOPICAL, _CLOSING, _LEAD_IN, _LEAD_OUT = 0.15, 0.6, 0.4, 0.45, 0.35
# Each dialog's share of the orders below: at least as many as the patterns have variables for people and telephones.
_PEOPLE, _PHONES = 16, 4
_GENDERS = {"she": "female", "he": "male"}

_CHOICE = re.compile(r"\{([^{}|]*\|[^{}]*)\}")
_VARIABLE = re.compile(r"\[([a-z]+)(\d*)(?:\.([a-z]+))?\]")
_LOWER_START = re.compile(r"(?:^|(?<=[.!?] ))the (?=\[)")
_SLOT = re.compile(r"\[([A-Z]+-\d+)\]")


@dataclass(frozen=True)
class Scene:
    """One exchange: what a user may ask, and answers that fit each of the asks."""

    asks: Sequence[str]
    answers: Sequence[str]


@dataclass(frozen=True)
class Topic:
    """What a dialog is about: scenes that open it and scenes that carry it on."""

    opening: Sequence[Scene]
    follow: Sequence[Scene]


@dataclass(frozen=True)
class Patterns:
    """Everything `patterns.yaml` says."""

    topics: dict[str, Topic]
    generic: Sequence[Scene]
    closing: Sequence[Scene]
    greetings: Sequence[str]
    intros: Sequence[str]
    lead_ins: Sequence[str]
    lead_outs: Sequence[str]
    values: dict[str, dict[str, Sequence[str]]]


@cache
def load_patterns() -> Patterns:
    """The turn patterns and the forms of values that the package carries."""
    raw: dict[str, Any] = yaml.safe_load(files("nescio.data").joinpath("patterns.yaml").read_text(encoding="utf-8"))

    def scenes(items: list[dict[str, str]]) -> list[Scene]:
        return [Scene(item["asks"].splitlines(), item["answers"].splitlines()) for item in items]

    return Patterns(
        topics={name: Topic(scenes(t["opening"]), scenes(t["follow"])) for name, t in raw["topics"].items()},
        generic=scenes(raw["generic"]),
        closing=scenes(raw["closing"]),
        greetings=raw["greetings"].splitlines(),
        intros=raw["intros"].splitlines(),
        lead_ins=raw["lead_ins"].splitlines(),
        lead_outs=raw["lead_outs"].splitlines(),
        values={
            slot: {kind: forms.splitlines() for kind, forms in kinds.items()} for slot, kinds in raw["values"].items()
        },
    )


class _Order:
    """A seeded order on 0 .. size - 1 without repeats: `order[k]` is a bijection, so no two dialogs draw the same."""

    def __init__(self, size: int, random: Random) -> None:
        self.size = size
        self._offset = random.randrange(size)
        self._step = random.randrange(size // 4, size)
        while gcd(self._step, size) != 1:
            self._step += 1

    def __getitem__(self, k: int) -> int:
        return (self._offset + self._step * k) % self.size


@cache
def _name_pools() -> tuple[dict[str, list[str]], list[str]]:
    """First names by gender and surnames. None is a word of the patterns ("Will", "May") or fits both genders."""
    words = set(re.findall(r"\w+", files("nescio.data").joinpath("patterns.yaml").read_text(encoding="utf-8")))

    def usable(*pools: Sequence[str]) -> set[str]:
        # Faker has "Mcknight" for "McKnight".
        names = {name for pool in pools for name in pool if name.isascii() and name.isalpha()}
        return {name for name in names if name not in words and not name.startswith("Mc")}

    american, british = (
        require(f"faker.providers.person.{locale}", "demo", "made-up dialogs").Provider for locale in ("en_US", "en_GB")
    )
    female = usable(list(american.first_names_female), list(british.first_names_female))
    male = usable(list(american.first_names_male), list(british.first_names_male))
    surnames = usable(list(american.last_names), list(british.last_names)) - female - male
    return {"female": sorted(female - male), "male": sorted(male - female)}, sorted(surnames)


class _World:
    """Everybody and every telephone there is under one seed; each dialog has its own share."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.faker = require("faker", "demo", "made-up dialogs").Faker("en_US")
        random = Random(f"world-{seed}")
        first_names, surnames = _name_pools()
        self._surnames = random.sample(surnames, len(surnames))
        self._first_names = {gender: random.sample(pool, len(pool)) for gender, pool in first_names.items()}
        self._people = {g: _Order(len(pool) * len(surnames), random) for g, pool in self._first_names.items()}
        # 555-0100 to 555-0199 are kept free for fiction in every area.
        self._areas = [area for area in range(201, 990) if area % 100 != 11]
        self._phones = _Order(len(self._areas) * 100, random)

    @property
    def capacity(self) -> int:
        """How many dialogs there are before one would meet another's people or telephones."""
        return min(self._phones.size // _PHONES, *(order.size // _PEOPLE for order in self._people.values()))

    def person(self, gender: str, dialog: int, k: int) -> tuple[str, str]:
        """The k-th woman or man of a dialog, as first name and surname."""
        surname, first = divmod(self._people[gender][dialog * _PEOPLE + k], len(self._first_names[gender]))
        return self._first_names[gender][first], self._surnames[surname]

    def phone(self, dialog: int, k: int) -> str:
        """The k-th telephone number of a dialog."""
        area, line = divmod(self._phones[dialog * _PHONES + k], 100)
        return f"{self._areas[area]}-555-01{line:02d}"


@dataclass
class _Cast:
    """The people, places and things of one dialog, drawn when a pattern first names them."""

    world: _World
    number: int
    random: Random
    home: str  # the city that the dialog's libraries, clubs and clinics are in
    slots: dict[str, str] = field(default_factory=dict)  # value -> slot
    _variables: dict[str, str] = field(default_factory=dict)
    _people: dict[str, tuple[str, str]] = field(default_factory=dict)
    _phones: int = 0

    def slot(self, match: re.Match[str]) -> str:
        """The slot, in brackets and with its article, of a variable in a pattern, for example `[helper2.email]`."""
        variable = match[0]
        if variable not in self._variables:
            kind, drawn = self._draw(match[1], match[2], match[3])
            value = drawn.removeprefix("the ")  # the article is no personal data
            count = sum(slot.startswith(f"{kind}-") for slot in self.slots.values())
            slot = self.slots.setdefault(value, f"{kind}-{count + 1}")
            self._variables[variable] = f"the [{slot}]" if drawn != value else f"[{slot}]"
        return self._variables[variable]

    def _draw(self, kind: str, number: str, part: str | None) -> tuple[str, str]:
        if kind == "phone":
            self._phones += 1
            return "PHONE", self.world.phone(self.number, self._phones - 1)
        if kind + number == "city":
            return "LOC", self.home
        for slot, kinds in load_patterns().values.items():
            if kind in kinds:
                return slot, self._value(kinds[kind])
        first, surname = self._person(kind, number)
        if part == "email":
            return "EMAIL", f"{first}.{surname}@{self.world.faker.safe_domain_name()}".lower()
        return "NAME", {None: f"{first} {surname}", "first": first, "last": surname}[part]

    def _person(self, kind: str, number: str) -> tuple[str, str]:
        if kind + number not in self._people:
            gender = _GENDERS.get(kind) or self.random.choice(["female", "male"])
            self._people[kind + number] = self.world.person(gender, self.number, len(self._people))
        return self._people[kind + number]

    def _value(self, forms: Sequence[str]) -> str:
        while True:
            form = _expand(self.random.choice(forms), self.random)
            # "@" is the dialog's city: there, the public library is the Springfield Public Library.
            value: str = self.world.faker.parse(form.replace("@", self.home))
            if value.removeprefix("the ") not in self.slots and value != self.home:
                return value


def _expand(pattern: str, random: Random) -> str:
    """Resolve the choices `{a|b|c}`, innermost first."""
    while _CHOICE.search(pattern):
        pattern = _CHOICE.sub(lambda match: random.choice(match[1].split("|")), pattern)
    return pattern


def _script(random: Random, exchanges: int) -> list[str]:
    """The patterns of a dialog's turns, user and assistant in alternation."""
    patterns = load_patterns()
    topic = random.choice(list(patterns.topics.values()))
    first = random.choice(topic.opening)
    ask = _ask(random, first)
    intro = random.choice(patterns.intros) if _VARIABLE.search(ask) else ""
    turns = [f"{random.choice(patterns.greetings)} {intro} {ask}", _answer(random, first)]
    scenes: list[Scene] = []
    while len(scenes) < exchanges - 1:
        pool = topic.follow if random.random() < _TOPICAL else patterns.generic
        if len(scenes) == exchanges - 2 and random.random() < _CLOSING:
            pool = patterns.closing
        scene = random.choice(pool)
        if scene not in scenes:
            scenes.append(scene)
            turns += [_ask(random, scene), _answer(random, scene)]
    return turns


def _ask(random: Random, scene: Scene) -> str:
    """What the user says: now and then something that names nobody."""
    plain = random.random() < _PLAIN
    fitting = [ask for ask in scene.asks if plain != bool(_VARIABLE.search(ask))]
    return random.choice(fitting or scene.asks)


def _answer(random: Random, scene: Scene) -> str:
    """What the assistant says, often with a few words before it, mostly with some after it."""
    patterns = load_patterns()
    before = random.choice(patterns.lead_ins) if random.random() < _LEAD_IN else ""
    after = random.choice(patterns.lead_outs) if random.random() < _LEAD_OUT else ""
    return " ".join(filter(None, (before, random.choice(scene.answers), after)))


def _compose(world: _World, number: int, max_exchanges: int) -> tuple[list[str], dict[str, str]]:
    """A dialog's turns with slots in them, and the value of each slot."""
    random = Random(f"{world.seed}-{number}")
    world.faker.seed_instance(f"{world.seed}-{number}")
    exchanges = random.choices(range(1, max_exchanges + 1), _LENGTH_WEIGHTS[:max_exchanges])[0]
    cast = _Cast(world, number, random, home=random.choice(load_patterns().values["LOC"]["city"]))
    turns = [_VARIABLE.sub(cast.slot, _expand(turn, random)) for turn in _script(random, exchanges)]
    # An empty choice leaves two spaces, an article may begin a sentence.
    turns = [_LOWER_START.sub("The ", " ".join(turn.split())) for turn in turns]
    return turns, {slot: value for value, slot in cast.slots.items()}


def generate(count: int, seed: int, max_exchanges: int = 4) -> list[dict[str, Any]]:
    """Make up dialogs in which both sides use personal data, most of all the assistant.

    Dialog n depends on the seed and n alone, so a longer list begins with the shorter one. No two dialogs of a seed
    share a person, an e-mail address or a telephone number; addresses and numbers are of the kinds kept for fiction.

    Args:
        count: Number of dialogs.
        seed: Any integer.
        max_exchanges: The longest dialog, in pairs of user and assistant turns, 1 to 4.

    Returns:
        Dialogs: `id`, `messages` (user first, assistant last) and `pii`, the value of each slot.

    Raises:
        NescioError: A number out of range, or more dialogs than there are people to talk.
    """
    if count < 1:
        raise NescioError(f"count: {count} dialogs cannot be made; give at least 1")
    if max_exchanges not in range(1, len(_LENGTH_WEIGHTS) + 1):
        raise NescioError(f"max_exchanges: {max_exchanges} is out of range; give 1 to {len(_LENGTH_WEIGHTS)}")
    world = _World(seed)
    if count > world.capacity:
        raise NescioError(f"count: {count} dialogs would share people; give at most {world.capacity}")
    return [_dialog(world, number, max_exchanges) for number in range(count)]


def _dialog(world: _World, number: int, max_exchanges: int) -> dict[str, Any]:
    turns, pii = _compose(world, number, max_exchanges)
    messages = [
        {"role": "assistant" if k % 2 else "user", "content": _SLOT.sub(lambda slot: pii[slot[1]], turn)}
        for k, turn in enumerate(turns)
    ]
    return {"id": f"syn-{world.seed}-{number}", "messages": messages, "pii": pii}


def scrubbed(dialog: dict[str, Any]) -> list[dict[str, str]]:
    """A dialog's messages with each value replaced by its slot in brackets, as LLM-PC's scrubbed data has them.

    Whole words only; filling the slots again gives the messages back.
    """
    slots = {value: slot for slot, value in dialog["pii"].items()}
    return [
        {**message, "content": mask(message["content"], slot_spans(message["content"], slots))}
        for message in dialog["messages"]
    ]
