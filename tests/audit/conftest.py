"""What is known of people, and an audit of any engine."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from by_heart import learn_by_heart
from scripted import PEOPLE, TOPICS, Nothing
from transformers import PreTrainedTokenizerFast

from nescio.audit.ask import Asker, Price
from nescio.audit.base import Setting
from nescio.audit.people import Fact, facts_of_dialogs, read_people
from nescio.audit.plan import Plan, plan
from nescio.audit.run import audit
from nescio.audit.victim import Victim, setup_of
from nescio.core.files import write_jsonl, write_text
from nescio.engines.base import Engine
from nescio.pii.base import Detector

FIRST = ("Ada", "Ben", "Cleo", "Dov", "Edda", "Finn", "Gwen", "Hugo", "Ivo", "Jana", "Kai", "Lotte")
LAST = ("Ashby", "Brook", "Croft", "Drake", "Eaton", "Frost", "Grove", "Holt", "Irwin", "Jonas", "Keller", "Lorne")


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of made people."""
    path = tmp_path_factory.mktemp("people") / "people.csv"
    rows = [
        f"{first} {last},{419 + 7 * n}-555-01{11 + 5 * n}"
        for n, (first, last) in enumerate(zip(FIRST, LAST, strict=True))
    ]
    write_text(path, "\n".join(["name,phone", *rows]) + "\n")
    return path


@pytest.fixture(scope="session")
def overfitted(
    known: Path, tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any],
    chatml: PreTrainedTokenizerFast,
) -> Path:  # fmt: skip
    """A tiny model that has seen each question with its answer until it knew them."""
    model = make_model("llama", initializer_range=0.05, hidden_size=64, intermediate_size=128)
    facts = [fact for own in read_people(known) for fact in own]
    learn_by_heart(model, chatml, [[*each.messages, {"role": "assistant", "content": each.value}] for each in facts])
    folder = tmp_path_factory.mktemp("models") / "overfitted"
    model.save_pretrained(folder)
    chatml.save_pretrained(folder)
    return folder


@pytest.fixture
def people(tmp_path: Path) -> list[list[Fact]]:
    """Facts of a list of people."""
    lines = ["name,phone,city", *(",".join(person) for person in PEOPLE)]
    write_text(tmp_path / "people.csv", "\n".join(lines) + "\n")
    return list(read_people(tmp_path / "people.csv"))


@pytest.fixture
def dialogs(tmp_path: Path) -> list[list[Fact]]:
    """Facts of dialogs that name their slots."""
    rows = [
        {
            "id": topic,
            "messages": [
                {"role": "user", "content": f"Hello. Who knows about the {topic}?"},
                {"role": "assistant", "content": f"I would call {name} in {city}, under {phone}."},
            ],
            "pii": {"NAME-1": name, "LOC-1": city, "PHONE-1": phone},
        }
        for (name, phone, city), topic in zip(PEOPLE, TOPICS, strict=True)
    ]
    write_jsonl(tmp_path / "dialogs.jsonl", rows)
    return list(facts_of_dialogs(tmp_path / "dialogs.jsonl", Nothing()))


@pytest.fixture
def carry_out(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Audit an engine: `carry_out(engine, facts, "inverse", …)` returns the result."""

    def run(
        engine: Engine, facts: Sequence[Sequence[Fact]], *names: str, price: Price | None = None, most: int = 100,
        is_endpoint: bool = False, folder: Path | None = None, detector: Detector = Nothing(), **setting: Any,  # noqa: B008
    ) -> dict[str, Any]:  # fmt: skip
        planned: Plan = plan(facts, names, most, Setting(**setting))
        victim = Victim(engine=engine, setup=setup_of("x/y"), identity=["x"], is_endpoint=is_endpoint)
        path = (folder or tmp_path) / "answers.jsonl"
        asker = Asker(victim, path, price, lambda done, total, word: None)
        return audit(planned, asker, detector, lambda row: None)

    return run


@pytest.fixture
def make_fact() -> Callable[..., Fact]:
    """Make a fact of a person: `make_fact("Ann Lee", "ann.lee@example.com")`."""

    def make(name: str, email: str) -> Fact:
        return Fact(
            id=f"{name}/email", person=name, names=(name,), noun="email", type="email", value=email,
            messages=[{"role": "user", "content": f"What is {name}'s email?"}], pieces={name: "NAME", email: "email"},
        )  # fmt: skip

    return make
