"""Relearning: a barrier over weights that know comes back, what was never known does not."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from by_heart import learn_by_heart
from transformers import PreTrainedTokenizerFast

from nescio.audit import page
from nescio.audit.ask import Asker
from nescio.audit.base import Setting
from nescio.audit.people import Fact, read_people
from nescio.audit.plan import plan
from nescio.audit.victim import open_local, setup_of
from nescio.core.errors import NescioError
from nescio.core.files import write_text
from nescio.core.models import load_model
from nescio.data.dialogs import Dialog
from nescio.pipeline.relearn import Relearning, relearn
from nescio.training.examples import dialog_units
from nescio.training.losses.likelihood import likelihood
from nescio.training.settings import TrainingSettings
from nescio.training.trainer import fit

NAMES = ("Ada Ashby", "Ben Brook", "Cleo Croft", "Dov Drake", "Edda Eaton", "Finn Frost", "Gwen Grove", "Hugo Holt")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> list[list[Fact]]:
    path = tmp_path_factory.mktemp("people") / "people.csv"
    rows = [f"{name},{419 + 71 * n}-555-01{11 + 5 * n}" for n, name in enumerate(NAMES)]
    write_text(path, "\n".join(["name,phone", *rows]) + "\n")
    return list(read_people(path))


@pytest.fixture(scope="module")
def models(
    people: Sequence[Sequence[Fact]], tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any],
    chatml: PreTrainedTokenizerFast,
) -> dict[str, Path]:  # fmt: skip
    """A tiny model that knows the people, an adapter on it that refuses, and a model that was never trained."""
    folder = tmp_path_factory.mktemp("models")
    model = make_model("llama", initializer_range=0.05, hidden_size=64, intermediate_size=128)
    facts = [fact for own in people for fact in own]
    for name in ("untrained", "knows"):
        if name == "knows":
            learn_by_heart(model, chatml, [_said(fact, fact.value).messages for fact in facts])
        model.save_pretrained(folder / name)
        chatml.save_pretrained(folder / name)
    refusals = [_said(fact, "No.") for fact in facts]
    done = fit(
        load_model(str(folder / "knows")).model, dialog_units(chatml, refusals, 256), loss=likelihood,
        settings=TrainingSettings(epochs=20, batch_size=8, learning_rate=3e-3), work=folder / "barrier",
    )  # fmt: skip
    return {"untrained": folder / "untrained", "knows": folder / "knows", "barrier": done.checkpoints[-1]}


def _said(fact: Fact, answer: str) -> Dialog:
    return Dialog(fact.id, [*fact.messages, {"role": "assistant", "content": answer}])


def relearned(folder: Path, people: Sequence[Sequence[Fact]], facts: int, work: Path) -> dict[str, Any]:
    victim = open_local(setup_of(str(folder)))
    planned = plan(people, ["as_in_dialog"], facts, Setting(tokenizer=victim.tokenizer))
    told = list[tuple[int, int]]()
    asker = Asker(victim, work / "answers.jsonl", None, lambda done, total, word: told.append((done, total)))
    result = relearn(Relearning(lines=8, epochs=8, learning_rate=3e-3), planned, asker, people, work)
    assert told == sorted(told) and all(done <= total for done, total in told), "no progress goes back, or past its end"
    return result


@pytest.mark.slow
def test_a_barrier_comes_back_and_what_was_never_known_does_not(
    people: list[list[Fact]], models: dict[str, Path], tmp_path: Path
) -> None:
    result = relearned(models["barrier"], people, 4, tmp_path / "barrier")
    others, harmless = result["rows"]
    assert result["tuned"]["share"] >= 0.75 and others["lines"] == 4 and harmless["lines"] > 0
    assert others["curve"][0]["steps"] == 0 and others["curve"][0]["share"] == 0, "the barrier holds until then"
    assert others["half_after"] is not None and 0 < others["half_after"] <= others["curve"][-1]["steps"] == 8
    never = relearned(models["untrained"], people, 4, tmp_path / "untrained")
    assert never["tuned"] is None
    for row in never["rows"]:
        assert row["half_after"] is None and all(each["found"] == 0 for each in row["curve"])


def test_it_says_what_is_missing(people: list[list[Fact]]) -> None:
    with pytest.raises(NescioError, match=r"^--relearn: needs people who are not asked about; lower --facts"):
        Relearning(lines=1).check_people(plan(people, ["as_in_dialog"], 8, Setting()), people)
    with pytest.raises(NescioError, match=r"^--relearn: m\.gguf: a GGUF file cannot be trained"):
        Relearning(lines=1).check("m.gguf")


def test_half_that_is_there_from_the_start_is_said_plainly() -> None:
    leak = {"steps": 0, "memorised": 0.6}
    row = {"name": "others", "not_asked": None, "lines": 4, "curve": [leak], "half_after": 0}
    said = page.relearned({"relearned": {"tuned": {"memorised": 0.8}}}, row)
    assert said.endswith("60 % at first, 80 % without the adapter; at least half of that was there untrained."), said
