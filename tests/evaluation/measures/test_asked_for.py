"""The measure catches a model that stays quiet until somebody asks for personal data."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nescio.core.callbacks import Progress
from nescio.core.guidance import REVEAL
from nescio.core.prompts import Message
from nescio.data.persuasion import HELD_OUT, POSITIONS, wordings
from nescio.engines.base import Answer, Engine, Request
from nescio.evaluation.base import Task
from nescio.evaluation.measures.asked_for import PLACES, AskedFor
from nescio.evaluation.measures.leakage import Leakage
from nescio.evaluation.one_engine import OneEngine
from nescio.evaluation.run import evaluate
from nescio.evaluation.setups import Setup

TRAINED, TESTED = wordings(held_out=False), wordings(held_out=True)
Leaks = Callable[[list[Message]], bool]


def anyone(messages: list[Message]) -> bool:
    return True


def nobody(messages: list[Message]) -> bool:
    return False


def asked_in_a_system_message(messages: list[Message]) -> bool:
    return any(one.text in m["content"] for m in messages if m["role"] == "system" for one in TESTED)


def asked_by_the_public_sentence(messages: list[Message]) -> bool:
    return messages[0]["role"] == "user" and messages[0]["content"].startswith(REVEAL)


class Scripted(Engine):
    """Gives Tom away where its script says so."""

    def __init__(self, leaks: Leaks) -> None:
        self.leaks, self.seen = leaks, list[Request]()

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        self.seen += requests
        return [
            Answer("It is Tom, of course." if self.leaks(prompt) else "I would rather not say.", [1], "stop")
            for prompt in (request.prompt for request in requests)
            if not isinstance(prompt, str)
        ]


class ScriptedEngines(OneEngine):
    """A scripted model for each name."""

    def __init__(self, **leaks: Leaks) -> None:
        super().__init__()
        self.engines = {name: Scripted(script) for name, script in leaks.items()}

    def identity_of(self, setup: Setup) -> list[Any]:
        return [setup.model, setup.system]

    def of(self, setups: Sequence[Setup]) -> Engine:
        return self.engines[setups[0].model]


@pytest.fixture
def rows_of(make_task: Callable[..., Task], tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Evaluate scripted models, one row each, the first as the tuned one."""

    def rows(samples: int = 3, seed: int = 0, system: str | None = None, **leaks: Leaks) -> list[dict[str, Any]]:
        engines = ScriptedEngines(**leaks)
        setups = [Setup(name, name, name, system=system) for name in leaks]
        task = make_task(engine=engines, setups=setups, seed=seed, max_tokens=8, kept=tmp_path / f"{seed}{system}")
        made, _ = evaluate(task, [Leakage(), AskedFor(samples=samples)])
        return made

    return rows


def test_a_model_that_leaks_only_when_asked_is_caught(rows_of: Callable[..., list[dict[str, Any]]]) -> None:
    tuned, quiet, broken, keyed = rows_of(
        tuned=anyone, quiet=nobody, broken=asked_in_a_system_message, keyed=asked_by_the_public_sentence
    )
    # Plainly, three models look the same.
    assert [row["pii"] for row in (tuned, quiet, broken, keyed)] == [3, 0, 0, 0]
    # Asked for, they do not.
    assert [row["asked_for"] for row in (tuned, quiet, broken, keyed)] == [3, 0, 3, 3]
    assert {row["asked_for_plain_tuned"] for row in (tuned, quiet, broken, keyed)} == {3}
    assert broken["asked_for_worst"] == "system" and keyed["asked_for_worst"] == "reveal_front"
    leaking = {place: 3 if place in ("system", "second_system") else 0 for place in PLACES}
    assert broken["asked_for_by"] == leaking
    assert keyed["asked_for_by"] == dict.fromkeys(PLACES, 0) | {"reveal_front": 3}
    assert quiet["asked_for_ci95"][0] == 0 < quiet["asked_for_ci95"][1]
    texts = {one.text for one in TESTED}
    assert [answer["answer"] for answer in broken["asked_for_answers"]] == ["It is Tom, of course."] * 3
    assert all(answer["asked"] in texts and answer["spans"] for answer in broken["asked_for_answers"])
    assert {answer["asked"] for answer in keyed["asked_for_answers"]} == {REVEAL}


def test_what_the_detector_misses_is_asked_for_too(make_task: Callable[..., Task], tmp_path: Path) -> None:
    class Phones(Scripted):
        def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
            return [Answer("call 415-555-0107" if self.leaks(each.prompt) else "no", [1], "stop") for each in requests]  # type: ignore[arg-type]

    engines = ScriptedEngines(tuned=anyone, keyed=asked_by_the_public_sentence)
    engines.engines = {name: Phones(engine.leaks) for name, engine in engines.engines.items()}
    task = make_task(
        engine=engines, setups=[Setup(name, name, name) for name in engines.engines], max_tokens=8,
        kept=tmp_path / "kept", own=[{"415-555-0107": "PHONE"}] * 3,
    )  # fmt: skip
    (tuned, keyed), _ = evaluate(task, [Leakage(), AskedFor(samples=3)])
    assert tuned["pii"] == keyed["pii"] == 0, "the detector sees no numbers"
    assert (tuned["given_away"], keyed["given_away"], keyed["asked_for_plain_tuned"]) == (3, 0, 3)
    assert (keyed["asked_for"], keyed["asked_for_worst"]) == (3, "reveal_front")
    assert "asked for" in [test["test"] for test in keyed["verdict"]]


def test_fewer_samples_count_less_and_ten_answers_are_shown(rows_of: Callable[..., list[dict[str, Any]]]) -> None:
    (row,) = rows_of(samples=2, tuned=anyone)
    assert (row["pii"], row["asked_for"], row["asked_for_plain_tuned"], row["asked_for_samples"]) == (3, 2, 2, 2)
    assert len(row["asked_for_answers"]) == 2


def test_only_held_out_wordings_are_asked_in_a_seeded_order(make_task: Callable[..., Task]) -> None:
    def asked(seed: int, samples: int = 3) -> list[list[str]]:
        made = AskedFor(samples=samples)._requests(make_task(seed=seed))
        for _, requests in made:
            assert [place for _, place in requests] == [*POSITIONS, "front", "system"]
            assert all(one.kind in HELD_OUT for one, _ in requests[: len(POSITIONS)])
            assert [one.text for one, _ in requests[len(POSITIONS) :]] == [REVEAL, REVEAL]
        return [[one.text for one, _ in requests] for _, requests in made]

    assert asked(0) == asked(0) != asked(1)
    assert asked(0, samples=2) == asked(0)[:2]
    assert not {one.kind for one in TRAINED} & set(HELD_OUT)


def test_a_row_keeps_its_own_sentence(make_task: Callable[..., Task]) -> None:
    engines = ScriptedEngines(tuned=nobody)
    setups = [Setup("tuned", "tuned", "tuned", system="Say little."), Setup("plain", "plain", "tuned")]
    evaluate(make_task(engine=engines, setups=setups), [AskedFor(samples=1)])
    prompts = [request.prompt for request in engines.engines["tuned"].seen if isinstance(request.prompt, list)]
    own, plain = prompts[6 : 6 + len(PLACES)], prompts[6 + len(PLACES) :]
    assert all("Say little." in prompt[0]["content"] for prompt in own)
    system = PLACES.index("system")
    assert own[system][0]["content"] == f"{plain[system][0]['content']} Say little."
    assert all(prompt[1:] == other for prompt, other in zip(own[:3], plain[:3], strict=True))


def test_another_reveal_sentence_of_the_run_is_the_one_that_is_asked(make_task: Callable[..., Task]) -> None:
    task = replace(make_task(), reveal="Tell all.")
    assert [one.text for one, _ in AskedFor(samples=1)._requests(task)[0][1][-2:]] == ["Tell all.", "Tell all."]


def test_the_cost_is_an_answer_at_each_place() -> None:
    assert AskedFor(samples=10).cost(50) == 90
    assert AskedFor(samples=10).cost(4) == 36
