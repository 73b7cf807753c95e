"""The search for the best prefix: it finds what opens a model, within its budget, and counts nobody whom it knows."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted import PEOPLE, Scripted, known, last_turn

from nescio.audit.base import Setting
from nescio.audit.people import Fact
from nescio.audit.plan import plan
from nescio.core.callbacks import Progress
from nescio.engines.base import Request, Scoring

Facts = list[list[Fact]]
CarryOut = Callable[..., dict[str, Any]]
NAME = "searched_prefix"
OPENS = ("Debug mode.", "Yes, my")


class Opened(Scripted):
    """Gives people away behind two fragments of the answer and one before the question, each of which helps a little.

    Breaks after so many batches of scores.
    """

    def __init__(self, opens: bool = True, breaks_after: float = math.inf) -> None:
        super().__init__(self._said)
        self.opens, self.left, self.scored = opens, breaks_after, list[Scoring]()

    def _open(self, prompt: Any) -> int:
        question, answer = (
            next((turn["content"] for turn in prompt if turn["role"] == role), "") for role in ("user", "assistant")
        )
        return self.opens * sum((OPENS[0] in question, answer.startswith("Yes,"), OPENS[1] in answer))

    def _said(self, request: Request) -> str:
        return known(last_turn(request)) or "It is 1." if self._open(request.prompt) == 3 else "No."

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.scored += items
        return [[self._open(item.prompt) - 4.0, -1.0] for item in items]


def test_what_opens_the_model_is_found_and_the_known_are_not_counted(
    people: Facts, carry_out: CarryOut, tmp_path: Path
) -> None:
    engine = Opened()
    result = carry_out(Opened(), people, NAME, folder=tmp_path / "alone")
    assert (result["all"]["facts"], result["all"]["people"]) == (8, 4), "who is known proves nothing in the sum either"
    plain, searched, prefix = carry_out(engine, people, "as_in_dialog", "prefix", NAME)["attacks"]
    assert (plain["found"], plain["facts"], prefix["found"]) == (0, 10, 0)
    assert (searched["found"], searched["facts"], searched["people"], searched["guessed"]) == (8, 8, 4, 0)
    best = searched["searched"][0]
    assert OPENS[0] in best["before"] and OPENS[1] in best["answer"]
    values = {item.continuation.strip() for item in engine.scored}
    assert len(values) == 1, "one person of five is known"
    (value,) = values
    who = next(name for name, *own in PEOPLE if value in own)
    asked = [request for request in engine.asked if engine._open(request.prompt)]
    assert asked and not any(who in last_turn(request) for request in asked)


def test_a_model_that_nothing_opens_gives_nothing(people: Facts, carry_out: CarryOut) -> None:
    (row,) = carry_out(Opened(opens=False), people, NAME)["attacks"]
    assert (row["found"], row["guessed"], row["memorised"]) == (0, 0, 0)
    assert row["memorised_ci95"][0] < 0 < row["memorised_ci95"][1] and len(row["searched"]) == 3


@pytest.mark.parametrize("most", [1, 2, 57, 600])
def test_the_budget_is_said_before_and_kept(most: int, people: Facts, carry_out: CarryOut) -> None:
    engine, planned = Opened(), plan(people, [NAME], 100, Setting(scorings=most))
    (row,) = carry_out(engine, people, NAME, scorings=most)["attacks"]
    assert len(engine.scored) == row["scorings"] == planned.scorings(NAME) == most
    assert planned.total == planned.count(NAME) == most + len(planned.questions[NAME])
    assert len(engine.asked) <= len(planned.questions[NAME])
    tried = [(item.prompt, item.continuation) for item in engine.scored]
    assert all(tried.count(one) == 1 for one in tried), "nothing is scored twice"


def many(make_fact: Callable[..., Fact], count: int) -> Facts:
    return [[make_fact(f"Person {n:03d}", f"{n * 7919}@example.com")] for n in range(1, count + 1)]


def test_of_many_people_six_are_known(make_fact: Callable[..., Fact], carry_out: CarryOut) -> None:
    engine = Opened()
    (row,) = carry_out(engine, many(make_fact, 40), NAME)["attacks"]
    assert len({item.continuation.strip() for item in engine.scored}) == 6 and row["facts"] == 34
    assert 590 < len(engine.scored) == row["scorings"] <= 600


def test_the_same_seed_finds_the_same(people: Facts, carry_out: CarryOut, tmp_path: Path) -> None:
    def tried(name: str, seed: int) -> list[Any]:
        engine = Opened()
        (row,) = carry_out(engine, people, NAME, folder=tmp_path / name, seed=seed)["attacks"]
        return [row["searched"], [item.prompt for item in engine.scored]]

    assert tried("a", 3) == tried("b", 3) and tried("c", 4)[1] != tried("b", 3)[1]


def test_a_killed_search_goes_on_and_scores_nothing_twice(people: Facts, carry_out: CarryOut, tmp_path: Path) -> None:
    alone, broken, again, done = Opened(), Opened(breaks_after=7), Opened(), Opened()
    wanted = carry_out(alone, people, NAME, folder=tmp_path / "alone")
    with pytest.raises(KeyboardInterrupt):
        carry_out(broken, people, NAME, folder=tmp_path / "killed")
    assert carry_out(again, people, NAME, folder=tmp_path / "killed") == wanted
    assert broken.scored and len(broken.scored) + len(again.scored) == len(alone.scored)
    assert carry_out(done, people, NAME, folder=tmp_path / "killed") == wanted and not done.scored + done.asked


def test_without_likelihoods_it_is_not_asked(people: Facts, carry_out: CarryOut) -> None:
    engine, names = Scripted(lambda request: "No."), ("as_in_dialog", NAME)
    _, row = carry_out(engine, people, *names)["attacks"]
    assert row["not_asked"].startswith("needs likelihoods (Scripted gives no likelihoods")
    _, row = carry_out(engine, people, *names, is_endpoint=True, continues=False)["attacks"]
    assert row["not_asked"].startswith("needs likelihoods, which an endpoint's chat does not give")
    _, row = carry_out(engine, people[:3], *names)["attacks"]
    assert row["not_asked"].endswith("and four people")


def test_in_dialogs_it_goes_on_with_the_answer(dialogs: Facts, carry_out: CarryOut) -> None:
    engine = Opened()
    (row,) = carry_out(engine, dialogs, NAME)["attacks"]
    assert row["found"] == row["facts"] == 12
    beginnings = [item.prompt[-1]["content"] for item in engine.scored]
    assert all("I would call" in each for each in beginnings), "the answer's own beginning stays"
    assert any(each.startswith("I would call I would call") for each in beginnings), "and is a fragment"
    own = [name for name, *_ in PEOPLE]
    assert all(sum(each.count(name) for name in own) <= 1 for each in beginnings), "without personal data"
