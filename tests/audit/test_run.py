"""An audit: memory told from guessing, killed and gone on, within a budget, and with questions that get no answer."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted import PEOPLE, Scripted, known, last_turn, whole
from transformers import PreTrainedTokenizerFast

from nescio.audit.ask import Price
from nescio.audit.people import Fact
from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.engines.base import Answer, Request, TooLongError, UnansweredError
from nescio.engines.errors import EndpointError

Facts = list[list[Fact]]
CarryOut = Callable[..., dict[str, Any]]
SOME = ("as_in_dialog", "inverse", "several_turns")
THERE = {"is_endpoint": True, "continues": False}


def knows(request: Request) -> str:
    return known(last_turn(request)) or "I do not know."


def test_what_is_said_of_everybody_is_guessed(people: Facts, carry_out: CarryOut) -> None:
    (row,) = carry_out(Scripted(lambda request: "In Leeds, I guess."), people, "as_in_dialog")["attacks"]
    assert (row["found"], row["guessed"]) == (1, 0.1)
    assert row["memorised"] == 0 and row["memorised_ci95"][0] < 0 < row["memorised_ci95"][1]
    assert row["people_found"] == 1 and 0.2 < row["people_at_most"] < 1


def test_what_can_be_inferred_from_the_name_is_guessed(make_fact: Callable[..., Fact], carry_out: CarryOut) -> None:
    def infers(request: Request) -> str:
        name = whole(request).partition("What is ")[2].partition("'s")[0]
        return f"{'.'.join(name.lower().split())}@example.com"

    facts = [[make_fact(name, f"{'.'.join(name.lower().split())}@example.com")] for name, _, _ in PEOPLE]
    (row,) = carry_out(Scripted(infers), facts, "as_in_dialog")["attacks"]
    assert (row["found"], row["guessed"], row["memorised"]) == (5, 1, 0)


def _refused(call: Callable[[], Any]) -> str:
    with pytest.raises(NescioError) as error:
        call()
    return str(error.value)


def test_by_type_by_person_and_in_part(people: Facts, carry_out: CarryOut) -> None:
    def answer(request: Request) -> str:
        said = known(last_turn(request))
        return said[-12:] if said and "Ferrari" in said else f"It ends in {said.split(', ')[1][-4:]}." if said else ""

    result = carry_out(Scripted(answer), people, "as_in_dialog")
    (row,) = result["attacks"]
    assert row["types"] == {
        "phone": {"facts": 5, "found": 0, "partial": 5}, "place": {"facts": 5, "found": 1, "partial": 0},
    }  # fmt: skip
    assert (row["found"], row["partial"]) == (1, 5)
    assert result["by_person"][0] == {
        "person": "Anna Ferrari",
        "facts": 2,
        "found": 1,
        "by": {"city": ["as_in_dialog"]},
    }
    assert row["examples"][0]["value"] == "Geneva" and row["examples"][0]["said"] == "exact"


def test_a_killed_audit_goes_on_to_the_same_result(people: Facts, carry_out: CarryOut, tmp_path: Path) -> None:
    alone, broken, again = Scripted(knows), Scripted(knows, breaks_after=17), Scripted(knows)
    wanted = carry_out(alone, people, *SOME, folder=tmp_path / "alone", **THERE)
    with pytest.raises(KeyboardInterrupt):
        carry_out(broken, people, *SOME, folder=tmp_path / "killed", **THERE)
    assert carry_out(again, people, *SOME, folder=tmp_path / "killed", **THERE) == wanted
    assert len(broken.asked) >= 17 and len(broken.asked) + len(again.asked) == len(alone.asked)
    assert len(alone.asked) <= wanted["questions"]


def test_a_budget_stops_it_and_nothing_is_paid_for_twice(people: Facts, carry_out: CarryOut) -> None:
    engine, each = Scripted(knows), {"prompt": 1e5, "answer": 0.0}  # a dollar for the ten tokens of a prompt
    said = _refused(lambda: carry_out(engine, people, *SOME, price=Price(**each, budget=5), **THERE))
    assert "--budget 5: used up after" in said and "give more" in said and "\n" not in said
    paid = len(engine.asked)
    assert 5 <= paid <= 5 + 8, "what was under way is answered"
    result = carry_out(engine, people, *SOME, price=Price(**each, budget=1000), **THERE)
    assert result["dollars"] == len(engine.asked), "each is paid for once"


def test_a_question_without_an_answer_counts_for_nothing(people: Facts, carry_out: CarryOut) -> None:
    def refuses(request: Request) -> str:
        if "Tom Hale" in whole(request):
            raise UnansweredError("m at host: HTTP 400")
        return knows(request)

    result = carry_out(Scripted(refuses), people, "as_in_dialog", **THERE)
    (plain,) = result["attacks"]
    assert (result["unanswered"], plain["unanswered"], plain["found"], plain["facts"]) == (2, 2, 8, 8)

    def is_long(request: Request) -> str:
        if "Anna Ferrari" in whole(request):
            raise TooLongError("too long", 0)
        return knows(request)

    (paraphrased,) = carry_out(Scripted(is_long), people, "paraphrase")["attacks"]
    assert (paraphrased["found"], paraphrased["facts"]) == (8, 8)


def test_a_fact_without_an_answer_about_its_made_up_person_is_left_out(people: Facts, carry_out: CarryOut) -> None:
    def is_long(request: Request) -> str:
        asked = whole(request)
        if len(asked) > 150 and known(last_turn(request)) is None:
            raise TooLongError("too long", 0)
        return f"{knows(request)} Leeds"

    result = carry_out(Scripted(is_long), people, "as_in_dialog", "in_context")
    plain, in_context = result["attacks"]
    assert plain["facts"] == result["all"]["facts"] == 10 and plain["unanswered"] == 0
    assert in_context["not_asked"] == "no fact was answered together with the made-up one beside it"
    assert in_context["unanswered"] == result["unanswered"] == 10 and "found" not in in_context
    assert {name for row in result["by_person"] for own in row["by"].values() for name in own} == {"as_in_dialog"}
    assert result["all"]["found"] == plain["found"], "what does not count there does not count here"


def test_a_person_counts_with_the_facts_that_were_asked(people: Facts, carry_out: CarryOut) -> None:
    def refuses(request: Request) -> str:
        asked = whole(request)
        if "Tom Hale's city" in asked or "Mary Quill" in asked:
            raise TooLongError("too long", 0)
        return knows(request)

    rows = {row["person"]: row for row in carry_out(Scripted(refuses), people, "as_in_dialog")["by_person"]}
    assert (rows["Tom Hale"]["facts"], rows["Tom Hale"]["found"]) == (1, 1)
    assert "Mary Quill" not in rows and rows["Anna Ferrari"]["facts"] == 2


def test_an_attack_to_which_nothing_is_answered_is_none(people: Facts, carry_out: CarryOut) -> None:
    def answer(request: Request) -> str:
        if len(whole(request)) > 150:
            raise TooLongError("too long", 0)
        return knows(request)

    plain, long = carry_out(Scripted(answer), people, "as_in_dialog", "in_context")["attacks"]
    assert plain["found"] == 10 and long.get("found") is None
    assert long["not_asked"] == f"none of its {long['unanswered']} questions was answered"


def test_a_silent_endpoint_ends_it_in_one_line(people: Facts, carry_out: CarryOut) -> None:
    def silent(request: Request) -> str:
        raise UnansweredError("m at host: cannot be reached; is base_url right, and the server up?")

    said = _refused(lambda: carry_out(Scripted(silent), people, "as_in_dialog", **THERE))
    assert said.startswith("m at host: cannot be reached") and said.endswith("run the same command to go on")


def test_a_server_that_completes_no_text_is_not_asked_to(people: Facts, carry_out: CarryOut) -> None:
    def answer(request: Request) -> str:
        if isinstance(request.prompt, str):
            raise EndpointError("m at host: no such model or endpoint there", status=404)
        return knows(request)

    names = ("as_in_dialog", "completion", "pretext")
    plain, completion, pretext = carry_out(Scripted(answer), people, *names, **THERE)["attacks"]
    assert plain["found"] == pretext["found"] == 10
    assert completion["not_asked"].startswith("needs plain text to be completed there (m at host: no such model")

    def refuses(request: Request) -> str:
        if isinstance(request.prompt, str):
            raise UnansweredError("m at host: HTTP 400", status=400)
        return knows(request)

    plain, completion = carry_out(Scripted(refuses), people, "as_in_dialog", "completion", **THERE)["attacks"]
    assert plain["found"] == 10
    assert completion["not_asked"] == "needs plain text to be completed there (m at host: HTTP 400)"

    def is_locked(request: Request) -> str:
        if isinstance(request.prompt, str):
            raise EndpointError("m at host: the key is wrong", status=401)
        return knows(request)

    assert "the key is wrong" in _refused(lambda: carry_out(Scripted(is_locked), people, "completion", **THERE))


def test_a_model_without_a_chat_template_is_asked_in_plain_text_alone(
    people: Facts, carry_out: CarryOut, make_tokenizer: Callable[..., PreTrainedTokenizerFast]
) -> None:
    engine = Scripted(lambda request: known(whole(request)) or "")
    rows = carry_out(engine, people, tokenizer=make_tokenizer(None))["attacks"]
    assert [row["name"] for row in rows if row["not_asked"] is None] == ["completion"]
    assert all(isinstance(request.prompt, str) for request in engine.asked)
    (plain,) = (row for row in rows if row["name"] == "as_in_dialog")
    assert plain["not_asked"] == "needs a chat template, which this model lacks"


def test_many_draws_give_leak_at_k(people: Facts, carry_out: CarryOut) -> None:
    def now_and_then(request: Request) -> str:
        return knows(request) if request.seed % 2 else ""

    (row,) = carry_out(Scripted(now_and_then), people, "many_draws", draws=8)["attacks"]
    first, last = row["leak_at"]["1"], row["leak_at"]["8"]
    assert 0.3 < first[0] < 0.7 and last[0] == row["share"] > 0.9


class Limited(Scripted):
    """Says nothing within few tokens, as a model whose thoughts come first."""

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        answers = super().generate(requests, progress)
        return [
            Answer("", [1] * request.max_tokens, "length", prompt_tokens=10) if request.max_tokens < 500 else answer
            for request, answer in zip(requests, answers, strict=True)
        ]


@pytest.mark.parametrize("where", [THERE, {}])
def test_a_model_that_says_nothing_gets_no_figures(
    people: Facts, carry_out: CarryOut, where: dict[str, Any], tmp_path: Path
) -> None:
    silent = Scripted(lambda request: " \n")
    said = _refused(lambda: carry_out(silent, people, *SOME, **where, folder=tmp_path / "silent"))
    assert re.fullmatch(r"all [1-9]\d* answers were empty, and show nothing; is the model, .* the right one\?", said)
    limited = Limited(knows)
    said = _refused(lambda: carry_out(limited, people[1:], *SOME, **where))
    assert said == "every plain answer was empty and cut off at --max-tokens 64; the model's thoughts may need more"
    assert len(limited.asked) == 16, "nothing more is paid for"
    found = carry_out(Limited(knows), people[1:], "as_in_dialog", max_tokens=500, **where)
    assert found["all"]["found"] == 8 and found["max_tokens"] == 500 and found["empty"] == found["cut_off"] == 0


def test_an_empty_answer_is_none(people: Facts, carry_out: CarryOut) -> None:
    def says(request: Request) -> str:
        asked = whole(request)
        return "" if "Tom Hale" in asked or asked.startswith("system: ") else known(asked) or ""

    result = carry_out(Scripted(says), people, "as_in_dialog", "paraphrase", "system_message")
    plain, paraphrase, system = result["attacks"]
    assert system["not_asked"] == f"all of its {system['empty']} answers were empty" and "found" not in system
    assert (plain["facts"], plain["found"]) == (8, 8), "silence about somebody shows nothing"
    assert (plain["empty"], plain["unanswered"], plain["questions"], plain["answers"]) == (12, 12, 20, 8)
    assert (paraphrase["facts"], paraphrase["guessed"]) == (8, 0), "silence about somebody made up hides no leak"
    assert result["empty"] == plain["empty"] + paraphrase["empty"] + system["empty"]


def test_answers_of_an_older_audit_are_read(people: Facts, carry_out: CarryOut, tmp_path: Path) -> None:
    cut = Limited(knows)
    result = carry_out(cut, people, "as_in_dialog", max_tokens=500, folder=tmp_path / "new")
    lines = [json.loads(line) for line in (tmp_path / "new/answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row.pop("finish") for row in lines} == {"stop"}
    write_jsonl(tmp_path / "old/answers.jsonl", lines)
    silent = Scripted(knows)
    assert carry_out(silent, people, "as_in_dialog", max_tokens=500, folder=tmp_path / "old") == result
    assert not silent.asked


def test_what_an_endpoint_refuses_is_told_from_an_outage(people: Facts, carry_out: CarryOut, tmp_path: Path) -> None:
    def filters(request: Request) -> str:
        if whole(request).startswith("system: "):
            raise UnansweredError("m at host: HTTP 400 (it says: content filter)", status=400)
        if "Tom Hale" in whole(request):
            raise EndpointError("m at host: the key is refused", status=403)
        return knows(request)

    asked = Scripted(filters)
    plain, pretext, system = carry_out(asked, people, "as_in_dialog", "system_message", "pretext", **THERE)["attacks"]
    assert system["not_asked"] == "refused by the endpoint (m at host: HTTP 400 (it says: content filter))"
    assert (plain["facts"], plain["found"], plain["unanswered"], pretext["found"]) == (8, 8, 2, 8)
    refused = sum(whole(request).startswith("system: ") or "Tom Hale" in whole(request) for request in asked.asked)
    again = Scripted(filters)
    carry_out(again, people, "as_in_dialog", "system_message", "pretext", **THERE)
    assert len(again.asked) == refused, "a later command asks what was refused again"

    def refuses(request: Request) -> str:
        raise EndpointError("m at host: the key in KEY is refused", status=403)

    said = _refused(lambda: carry_out(Scripted(refuses), people, *SOME, **THERE, folder=tmp_path / "no"))
    assert said == "every plain question was refused: m at host: the key in KEY is refused"
    said = _refused(lambda: carry_out(Scripted(refuses), people, "completion", **THERE, folder=tmp_path / "no"))
    assert said.endswith("refused by the endpoint (m at host: the key in KEY is refused)")

    def fails(request: Request) -> str:
        if "Tom Hale" in whole(request):
            raise UnansweredError("m at host: HTTP 422", status=422)
        raise UnansweredError("m at host: HTTP 503", status=503)

    said = _refused(lambda: carry_out(Scripted(fails), people[1:3], "paraphrase", **THERE, folder=tmp_path / "out"))
    assert said.startswith("m at host: HTTP 503; ") and said.endswith("in a row; run the same command to go on")
