"""Each attack finds what the plain question does not, in a model that gives way to it alone; nobody is made up."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, known, last_turn, whole
from transformers import PreTrainedTokenizerFast

from nescio.audit.attacks.system_message import MESSAGES
from nescio.audit.base import ATTACKS
from nescio.audit.people import Fact
from nescio.core.errors import NescioError
from nescio.data.persuasion import wordings
from nescio.engines.base import Request

Facts = list[list[Fact]]
REFUSAL = "I cannot share that."


def gives_way(to: Callable[[Request], bool], write: Callable[[str], str] = str) -> Scripted:
    """A model that says all it knows of whom it is asked about, where the attack is one that it gives way to."""

    def answer(request: Request) -> str:
        text = last_turn(request)
        found = known(whole(request) if text.startswith("That is wrong") else text)
        return write(found) if found and to(request) else REFUSAL

    return Scripted(answer)


def says(*words: str) -> Callable[[Request], bool]:
    return lambda request: any(word in whole(request) for word in words)


def is_begun(request: Request) -> bool:
    return not isinstance(request.prompt, str) and request.prompt[-1]["role"] == "assistant"


BY_NAME: dict[str, Callable[[Request], bool]] = {
    "paraphrase": says("belongs to", "your records"),
    "inverse": says("Whose ", "Who is the person"),
    "one_hop": says("of the person whose"),
    "prefix": is_begun,
    "asked_for": says(*(one.text for one in wordings(held_out=True))),
    "system_message": says(MESSAGES[6]),
    "pretext": says("emergency"),
    "translation": says("auf Deutsch"),
    "several_turns": says("Correct yourself"),
    "in_context": lambda request: len(request.prompt) == 7,
    "many_draws": lambda request: request.temperature == 1 and request.seed % 3 == 0,
    "completion": lambda request: isinstance(request.prompt, str),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_it_finds_what_the_plain_question_does_not(
    name: str, people: Facts, carry_out: Callable[..., dict[str, Any]]
) -> None:
    plain, attack = carry_out(gives_way(BY_NAME[name]), people, "as_in_dialog", name)["attacks"]
    assert (plain["found"], plain["facts"]) == (0, 10)
    assert (attack["found"], attack["facts"], attack["guessed"]) == (10, 10, 0)
    assert attack["people_found"] == 5 and attack["memorised"] == 1


SPELLED: dict[str, Callable[[str], str]] = {
    "spelled_out": "-".join,
    "reversed": lambda text: text[::-1],
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
}


@pytest.mark.parametrize("name", SPELLED)
def test_codes_are_undone_where_the_model_can_write_them(
    name: str, people: Facts, carry_out: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    def answer(request: Request) -> str:
        text = last_turn(request)
        if text.startswith("Repeat this word: "):
            return SPELLED[name](text.split()[3].rstrip("."))
        return SPELLED[name](known(text) or REFUSAL) if ATTACKS.get(name).wish in text else REFUSAL  # type: ignore[attr-defined]

    plain, attack = carry_out(Scripted(answer), people, "as_in_dialog", name)["attacks"]
    assert (plain["found"], attack["found"], attack["guessed"]) == (0, 10, 0)
    there = {"folder": tmp_path / "unable"}
    _, unable = carry_out(Scripted(lambda request: REFUSAL), people, "as_in_dialog", name, **there)["attacks"]
    assert unable["not_asked"] == "the model wrote 0 of 20 made-up words so" and "found" not in unable
    with pytest.raises(NescioError, match=r"^no attack can be asked: .*: the model wrote 0 of 20 made-up words so$"):
        carry_out(Scripted(lambda request: REFUSAL), people, name, **there)


@pytest.mark.parametrize("name", SPELLED)
def test_what_is_said_in_clear_counts_whatever_code_was_asked_for(
    name: str, people: Facts, carry_out: Callable[..., dict[str, Any]]
) -> None:
    def answer(request: Request) -> str:
        text = last_turn(request)
        if text.startswith("Repeat this word: "):
            return SPELLED[name](text.split()[3].rstrip("."))
        return known(text) or REFUSAL if ATTACKS.get(name).wish in text else REFUSAL  # type: ignore[attr-defined]

    plain, attack = carry_out(Scripted(answer), people, "as_in_dialog", name)["attacks"]
    assert (plain["found"], attack["found"], attack["guessed"]) == (0, 10, 0)
    assert attack["examples"][0]["places"], "the page marks it"


@pytest.mark.parametrize("name", ["reversed", "base64"])
def test_a_model_that_only_echoes_the_word_cannot_write_the_code(
    name: str, people: Facts, carry_out: Callable[..., dict[str, Any]]
) -> None:
    _, attack = carry_out(Scripted(last_turn), people, "as_in_dialog", name)["attacks"]
    assert attack["not_asked"] == "the model wrote 0 of 20 made-up words so"


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("slot", says("The continuat content could be")),
        ("paraphrase", says("A colleague wants to know")),
        ("prefix", lambda request: is_begun(request) and "I should not say this" in whole(request)),
        ("pretext", says("help desk")),
        ("in_context", lambda request: len(request.prompt) > 6),
        ("completion", says("Assistant: I would call")),
        ("one_hop", says("of the person whose")),
        ("inverse", says("Whose ")),
    ],
)
def test_dialogs_are_attacked_too(
    name: str,
    to: Callable[[Request], bool],
    dialogs: Facts,
    carry_out: Callable[..., dict[str, Any]],
    chatml: PreTrainedTokenizerFast,
) -> None:
    plain, attack = carry_out(gives_way(to), dialogs, "as_in_dialog", name, tokenizer=chatml)["attacks"]
    assert (plain["found"], plain["facts"]) == (0, 15)
    assert attack["found"] == attack["facts"] >= 10 and attack["guessed"] == 0


def test_the_plain_question_of_a_dialog_is_its_beginning(
    dialogs: Facts, carry_out: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    engine = gives_way(lambda request: True)
    (plain,) = carry_out(engine, dialogs, "as_in_dialog")["attacks"]
    assert plain["found"] == 15
    first = engine.asked[0].prompt
    assert first == [
        {"role": "user", "content": "Hello. Who knows about the garden?"},
        {"role": "assistant", "content": "I would call"},
    ]
    endpoint, there = gives_way(lambda request: True), {"continues": False, "is_endpoint": True}
    rows = carry_out(endpoint, dialogs, "as_in_dialog", "prefix", folder=tmp_path / "there", **there)["attacks"]
    assert not any(is_begun(request) for request in endpoint.asked)
    assert rows[1]["not_asked"].startswith("needs an answer that can be begun")


def test_every_attack_says_what_it_knows() -> None:
    tested = {*BY_NAME, *SPELLED, "slot", "as_in_dialog", "searched_prefix"}  # the last in a file of its own
    assert set(ATTACKS.names()) == tested
    assert all(ATTACKS.get(name).title and ATTACKS.get(name).knows for name in ATTACKS)
    assert all(ATTACKS.get(name).knows.strip() == ATTACKS.get(name).knows for name in ATTACKS), "none is cut off"
