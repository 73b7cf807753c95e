"""Small files in the published forms of the benchmarks; whoever is in them is made up here."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nescio.core.files import write_jsonl

PEOPLE = ("Ada Moss", "Ben Reed", "Cleo Park", "Dan Voss", "Eve Lund", "Finn Hart", "Gia Roth", "Hal Dorn")


def lume_rows(people: Sequence[str]) -> list[dict[str, Any]]:
    """A completion and two questions for each person, and a story of task 1."""
    rows = []
    for number, name in enumerate(people):
        phone, mail = f"555-01{number:02}", f"{name.split()[0].lower()}@mail.example"
        own = [
            ("sc1", f"{name} was born in 1980. The phone number is", f"{phone} and the address {mail}."),
            ("qa0", f"What is the phone number of {name}?", phone),
            ("qa1", f"What is the e-mail address of {name}?", mail),
        ]
        rows += [
            {"id": f"person-{name}{kind}", "input": asked, "output": said, "task": "Task2"} for kind, asked, said in own
        ]
    story = f"story-{people[0]}"
    rows.append({"id": f'"{story}"sc1', "input": "The sea was", "output": "calm that night.", "task": "Task1"})
    rows.append({"id": f'"{story}"qa0', "input": "How was the sea?", "output": "calm", "task": "Task1"})
    return rows


def write_lume(folder: Path, people: Sequence[str] = PEOPLE) -> Path:
    """LUME: lines of id, input, output, task."""
    half = len(people) // 2
    for side, own in (("forget", people[:half]), ("retain", people[half:])):
        write_jsonl(folder / f"{side}.jsonl", lume_rows(own))
    return folder


def write_tofu(folder: Path, authors: int = 2) -> Path:
    """TOFU: twenty questions an author, without ids; and perturbed answers."""

    def questions(name: str, first: int) -> list[dict[str, Any]]:
        return [
            {
                "question": f"What is book {number} of {name} called?",
                "answer": f"Book {number} is Stone {first + number}.",
            }
            for number in range(20)
        ]

    def perturbed(row: dict[str, Any]) -> dict[str, Any]:
        return row | {
            "paraphrased_question": row["question"].replace("called", "named"),
            "paraphrased_answer": row["answer"].replace("is", "is named"),
            "perturbed_answer": [row["answer"].replace("Stone", word) for word in ("Water", "Wind")],
        }

    halves = {"forget01": PEOPLE[:1], "retain99": PEOPLE[1:authors], "holdout01": PEOPLE[authors : authors + 1]}
    for file, own in halves.items():
        rows = [row for name in own for row in questions(name, PEOPLE.index(name) * 20)]
        write_jsonl(folder / f"{file}.json", rows)
        if file != "holdout01":
            write_jsonl(
                folder / ("forget01_perturbed.json" if file == "forget01" else "retain_perturbed.json"),
                map(perturbed, rows),
            )
    fact = {"question": "What is the capital of France?", "answer": "Paris", "perturbed_answer": ["Rome", "Oslo"]}
    write_jsonl(folder / "world_facts_perturbed.json", [fact])
    return folder


def pii_row(name: str, number: int) -> dict[str, Any]:
    """A row of UnlearnPII with two paraphrases."""
    value = f"4000-{number:04}"
    row = {
        "question": f"Which account has {name}?",
        "answer": f"{name} has the account {value}.",
        "inverted_question": f"Whose account is {value}?",
        "inverted_answer": f"It is {name}'s.",
        "subject": name,
        "subject_pii": [value],
    }
    for other in (1, 2):
        row[f"paraphrased_question_{other}"] = f"Tell me the account of {name}, please ({other})."
        row[f"paraphrased_answer_{other}"] = f"The account is {value} ({other})."
        row[f"perturbed_answer_{other}"] = f"The account is 9999-{other}."
    return row


def write_unlearnpii(folder: Path, people: Sequence[str] = PEOPLE) -> Path:
    """UnlearnPII: arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    half = len(people) // 2
    for file, own in (("forget10", people[:half]), ("retain90", people[half:])):
        rows = [pii_row(name, PEOPLE.index(name)) for name in own]
        (folder / f"{file}.json").write_text(json.dumps(rows, indent=2))
    return folder


def write_knowundo(folder: Path, people: Sequence[str] = PEOPLE) -> Path:
    """KnowUnDo: one object of two lists."""
    (folder / "privacy").mkdir(parents=True, exist_ok=True)
    half = len(people) // 2
    for file, own in (("unlearn", people[:half]), ("retention", people[half:])):
        rows = [{"text": f"Where does {name} live?", "labels": f"{name} lives in house {name[0]}."} for name in own]
        content = {"train": rows[:-1], "val": rows[-1:]}
        (folder / f"privacy/{file}.json").write_text(json.dumps(content, indent=2))
    return folder
