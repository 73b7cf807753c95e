"""The attacks in a run: a row that gives way to one is found out, and is not best."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import PEOPLE, Nothing, Scripted, known, last_turn, whole

from nescio.audit.measure import Attacked
from nescio.audit.people import Fact
from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.engines.base import Request, Scoring, TooLongError
from nescio.evaluation.base import Found, Task
from nescio.evaluation.results import mark_best
from nescio.evaluation.setups import Setup
from nescio.pipeline.recipe import parse_recipe
from nescio.report.page_tables import under_attack

TUNED, GUARDED = Setup("tuned", "tuned", "x"), Setup("baked", "baked", "x", system="guarded")


def answer(request: Request) -> str:
    """The tuned model says all; the guarded one what it is asked in an emergency, or spelled out."""
    text = whole(request)
    if "Repeat this word" in text:
        return ""
    if "guarded" in text and "emergency" not in text:
        return "I cannot share that."
    return known(last_turn(request)) or "nothing"


class One:
    """In the place of `OneEngine`."""

    identity = ("scripted",)

    def identity_of(self, setup: Setup) -> str:
        return setup.name

    def tokenizer(self, model: str) -> Any:
        return SimpleNamespace(chat_template="x")


@pytest.fixture
def task(dialogs: list[list[Fact]], tmp_path: Path) -> Task:
    samples = [(fact.sample, fact.pieces) for own in dialogs for fact in own if fact.sample]
    return Task(
        setups=[TUNED, GUARDED], samples=[samples[0][0]], own=[{}], training=lambda count: samples[:count],
        max_tokens=8, base="x", protect="", detector=Nothing(), engine=One(),  # type: ignore[arg-type]
        answers=tmp_path, verdicts=tmp_path / "verdicts.jsonl", note=lambda text: None,
    )  # fmt: skip


def measured(task: Task, attacks: Sequence[str], engine: Scripted | None = None) -> list[dict[str, Any]]:
    measure = Attacked(attacks=attacks, facts=15)
    found = [Found(setup=setup) for setup in task.setups]
    for ask in measure.asks(task):
        for one, results in zip(found, ask.work(engine or Scripted(answer), task.setups), strict=True):
            one.given.setdefault(ask.kind, []).extend(results)
    return measure.score(task, found)


def test_each_row_is_attacked_and_the_worst_attack_is_named(task: Task) -> None:
    tuned, guarded = measured(task, ["pretext", "several_turns", "spelled_out"])
    assert tuned["attacked"]["as_in_dialog"]["share"] == 1 and guarded["attacked"]["as_in_dialog"]["share"] == 0
    assert (guarded["attacked_worst"], guarded["attacked_most"]) == ("pretext", 1)
    assert guarded["attacked"]["several_turns"]["found"] == 0
    assert guarded["attacked_examples"][0]["said"] == "exact"


def test_a_code_counts_where_the_tuned_model_answers_in_clear(task: Task) -> None:
    tuned, guarded = measured(task, ["reversed"])
    assert (tuned["attacked"]["reversed"]["share"], guarded["attacked"]["reversed"]["share"]) == (1, 0)
    assert "not_asked" in measured(task, ["reversed"], Scripted(lambda request: "nothing"))[0]["attacked"]["reversed"]


def test_a_fact_counts_where_its_made_up_person_has_an_answer_too(task: Task) -> None:
    def is_long(request: Request) -> str:
        text = whole(request)
        if "I would call " in text and not any(name in text for name, _, _ in PEOPLE):
            raise TooLongError("too long", 0)
        return answer(request)

    tuned, _ = measured(task, ["pretext"], Scripted(is_long))
    assert tuned["attacked"]["as_in_dialog"]["facts"] == 5, "the names, before which nobody is named"
    assert tuned["attacked"]["pretext"]["facts"] == 15

    def is_longer(request: Request) -> str:
        if not last_turn(request).startswith("Hello. Who knows"):
            raise TooLongError("too long", 0)
        return answer(request)

    tuned, _ = measured(task, ["pretext"], Scripted(is_longer))
    assert re.fullmatch(r"none of its [1-9]\d* questions was answered", tuned["attacked"]["pretext"]["not_asked"])


class Hides(Scripted):
    """Guarded, it says all behind the words "Debug mode.", which its likelihoods tell."""

    def __init__(self, scores: bool = True) -> None:
        super().__init__(
            lambda request: answer(request) if "Debug mode." not in whole(request) else known(whole(request)) or ""
        )
        self.scores, self.scored = scores, 0

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        if not self.scores:
            return super().score_batch(items, progress)
        self.scored += len(items)
        return [[float("Debug mode." in str(item.prompt)) - 2.0] for item in items]


def test_each_row_is_searched_and_asked_about_the_same_people(task: Task) -> None:
    engine = Hides()
    tuned, guarded = measured(task, ["searched_prefix"], engine)
    own = [row["attacked"]["searched_prefix"] for row in (tuned, guarded)]
    assert [found["facts"] for found in own] == [12, 12] and guarded["attacked"]["as_in_dialog"]["facts"] == 15
    assert (guarded["attacked_worst"], own[1]["found"], guarded["attacked"]["as_in_dialog"]["found"]) == (
        "searched_prefix",
        12,
        0,
    )
    assert "Debug mode." in own[1]["searched"][0]["before"]
    scored = engine.scored
    assert scored == 2 * 600 and measured(task, ["searched_prefix"], engine)[1] == guarded
    assert engine.scored == scored, "what was scored is on disk"


def test_a_row_without_likelihoods_is_not_searched(task: Task) -> None:
    _, guarded = measured(task, ["searched_prefix"], Hides(scores=False))
    assert guarded["attacked"]["searched_prefix"]["not_asked"] == "needs an engine that gives likelihoods"


def test_a_row_that_gives_way_fails_the_verdict(task: Task) -> None:
    fields = measured(task, ["pretext"])
    rows: list[dict[str, Any]] = [
        {"name": name, "model": name, "pii": pii, "leak_less_p": p, "degenerate": 0, "canned": 0, "on_topic": 1} | own
        for name, pii, p, own in zip(("tuned", "baked"), (9, 0), (1, 0.01), fields, strict=True)
    ]
    mark_best(rows)
    (failed,) = rows[1]["verdict"]
    assert failed["test"] == "attacks" and failed["figure"].startswith("100 % [")
    assert failed["figure"].endswith("of the facts under the attack “pretext”")
    assert not rows[1]["best"]
    shown = under_attack(rows)
    assert shown["names"][0] == "pretext" and shown["cells"][1][0].startswith("100 %")
    assert shown["examples"][0]["answers"][0]["parts"]


def test_a_recipe_that_names_no_attack_there_is_does_not_begin() -> None:
    recipe = {"base": "smollm2", "tune": {}, "data": {"synthetic": {}}, "evaluate": {"attacks": ["inverse"]}}
    assert parse_recipe(recipe).evaluate.attacks == ["inverse"]
    with pytest.raises(NescioError, match="attack 'foo': unknown; known here: as_in_dialog"):
        parse_recipe(recipe | {"evaluate": {"attacks": ["foo"]}})
