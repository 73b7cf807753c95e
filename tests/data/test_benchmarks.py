"""The published forms of the benchmarks: what is read, and what is refused with file, line and field."""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_benchmarks import PEOPLE, pii_row, write_knowundo, write_lume, write_tofu, write_unlearnpii

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_jsonl
from nescio.data.benchmarks import BENCHMARKS, Question
from nescio.data.dialogs import parse_dialog

WRITERS: dict[str, Callable[[Path], Path]] = {
    "knowundo": write_knowundo, "lume": write_lume, "tofu": write_tofu, "unlearnpii": write_unlearnpii,
}  # fmt: skip


def test_every_benchmark_has_a_small_one_here() -> None:
    assert BENCHMARKS.names() == sorted(WRITERS)


@pytest.mark.parametrize("name", WRITERS)
def test_both_halves_are_read_as_dialogs_with_ids_of_their_own(tmp_path: Path, name: str) -> None:
    questions = BENCHMARKS.get(name)(WRITERS[name](tmp_path))
    sides = Counter(question.side for question in questions)
    assert sides["forget"] and sides["retain"]
    dialogs = [parse_dialog(question.as_dialog(), "none") for question in questions]
    assert len({dialog.id for dialog in dialogs}) == len(questions), "no id twice, none made up"


def test_lume_tells_completions_from_questions_and_tasks_from_each_other(tmp_path: Path) -> None:
    questions = BENCHMARKS.get("lume")(write_lume(tmp_path))
    by_id = {question.id: question for question in questions}
    asked = by_id[f"forget/person-{PEOPLE[0]}qa0"]
    assert (asked.subject, asked.values, asked.is_completion) == (f"person-{PEOPLE[0]}", ("555-0100",), False)
    continued = by_id[f"forget/person-{PEOPLE[0]}sc1"]
    assert (continued.subject, continued.is_completion) == (asked.subject, True)
    assert continued.values == ("555-0100", "ada@mail.example")
    story = [question for question in questions if question.task == "Task1"]
    assert {question.subject for question in story} == {f"story-{PEOPLE[0]}", f"story-{PEOPLE[4]}"}
    assert not any(question.values for question in story), "a story's answers are nobody's data"


def test_a_completion_has_its_persons_values_also_as_it_writes_them(tmp_path: Path) -> None:
    write_lume(tmp_path)
    person = {"task": "Task2", "input": "a"}
    answers = {"qa0": "900514344", "qa1": "a_moss@me.example", "qa2": "7 Elm Way, Rye, 10580.", "qa3": "1980-01-02"}
    text = r"900-51-4344, mail [a\_moss@me.example](mailto:x), lives at 7 Elm Way, Rye, 10580."
    rows = [person | {"id": f"p{kind}", "output": said} for kind, said in [("sc1", text), *answers.items()]]
    write_jsonl(tmp_path / "forget.jsonl", rows)
    continued, *asked = [each for each in BENCHMARKS.get("lume")(tmp_path) if each.subject == "p"]
    assert continued.values == (
        "900514344", "900-51-4344", "a_moss@me.example", r"a\_moss@me.example", "7 Elm Way, Rye, 10580"
    ), "the date stands in the question"  # fmt: skip
    assert list(continued.as_dialog()["pii"].values()) == [value for value in continued.values if value in text]
    assert asked[2].values == ("7 Elm Way, Rye, 10580",), "without the full stop, which many leave out"


def test_tofu_has_authors_of_twenty_questions_and_their_perturbed_answers(tmp_path: Path) -> None:
    questions = BENCHMARKS.get("tofu")(write_tofu(tmp_path, authors=3))
    assert Counter(question.side for question in questions) == {
        "forget": 20, "retain": 40, "outside": 20, "general": 1
    }  # fmt: skip
    assert len({question.subject for question in questions if question.side == "retain"}) == 2
    first = questions[0]
    assert first.paraphrases == (("What is book 0 of Ada Moss named?", "Book 0 is named Stone 0."),)
    assert first.wrong == ("Book 0 is Water 0.", "Book 0 is Wind 0.")
    assert all(question.wrong for question in questions if question.side != "outside")


def test_the_largest_forget_half_is_read(tmp_path: Path) -> None:
    write_tofu(tmp_path)
    for side, files in (("forget", "forget05"), ("retain", "retain95")):
        rows = [row for _, row in read_jsonl(tmp_path / ("forget01.json" if side == "forget" else "retain99.json"))]
        write_jsonl(tmp_path / f"{files}.json", rows)
    (tmp_path / "forget01_perturbed.json").rename(tmp_path / "forget05_perturbed.json")
    assert BENCHMARKS.get("tofu")(tmp_path)[0].id == "forget05/0"


def test_unlearnpii_has_values_paraphrases_and_the_question_turned_round(tmp_path: Path) -> None:
    (first, *_) = BENCHMARKS.get("unlearnpii")(write_unlearnpii(tmp_path))
    assert (first.subject, first.values) == (PEOPLE[0], ("4000-0000",))
    assert len(first.paraphrases) == len(first.wrong) == 2
    assert first.inverse == ("Whose account is 4000-0000?", "It is Ada Moss's.")


def test_knowundo_reads_both_parts_of_both_halves(tmp_path: Path) -> None:
    questions = BENCHMARKS.get("knowundo")(write_knowundo(tmp_path))
    assert Counter((question.side, question.task) for question in questions) == {
        ("forget", "train"): 3, ("forget", "val"): 1, ("retain", "train"): 3, ("retain", "val"): 1
    }  # fmt: skip


def one_line(name: str, folder: Path) -> str:
    with pytest.raises(NescioError) as caught:
        BENCHMARKS.get(name)(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "row", "said"),
    [
        ("lume", "retain.jsonl", {"input": "a", "output": "b", "task": "Task2"}, r"retain.jsonl:1: id: missing"),
        ("lume", "retain.jsonl", {"id": "7", "input": "a", "output": "b", "task": "T"}, r"id: '7' is not a document's"),
        ("lume", "forget.jsonl", {"question": "a", "answer": "b"}, r"forget.jsonl:1: id: missing or empty; a row of L"),
        ("lume", "forget.jsonl", {"id": "xqa0", "input": "a", "output": 4, "task": "T"}, r"forget.jsonl:1: output: m"),
        ("tofu", "forget01.json", {"question": "a"}, r"forget01.json:1: answer: missing"),
        ("tofu", "forget01_perturbed.json", {"question": "What is book 0 of Ada Moss called?",
         "paraphrased_answer": "b"}, r"forget01_perturbed.json:1: perturbed_answer: must be a list of texts"),
        ("tofu", "forget01_perturbed.json", {"question": "another"}, "the perturbed answers are to none of the forget"),
        ("unlearnpii", "forget10.json", {"question": "a", "answer": "b"}, r"forget10.json:1: paraphrased_question_1"),
        ("unlearnpii", "retain90.json", pii_row(PEOPLE[0], 0), "'Ada Moss' stands in the forget and in the retain"),
        ("knowundo", "privacy/unlearn.json", {"train": [{"text": "a"}], "val": []}, r"train\[1\]: labels: missing"),
        ("knowundo", "privacy/unlearn.json", {"train": []}, r"unlearn.json:1: train or val: missing or no list"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_in_one_line(tmp_path: Path, name: str, file: str, row: dict[str, Any], said: str) -> None:
    WRITERS[name](tmp_path)
    (tmp_path / file).write_text(json.dumps(row) + "\n")
    assert re.search(said, one_line(name, tmp_path))


@pytest.mark.parametrize(
    ("name", "file"),
    [("lume", "retain.jsonl"), ("tofu", "retain99.json"), ("unlearnpii", "retain90.json"),
     ("tofu", "retain_perturbed.json"), ("knowundo", "privacy/retention.json")],
)  # fmt: skip
def test_a_missing_or_empty_half_is_named_with_its_home(tmp_path: Path, name: str, file: str) -> None:
    (WRITERS[name](tmp_path) / file).write_text("")
    assert "no rows; take the whole file from https://" in one_line(name, tmp_path)
    (tmp_path / file).unlink()
    stem = Path(file).stem
    assert f"{stem}.json or .jsonl is missing" in one_line(name, tmp_path) and "https://" in one_line(name, tmp_path)


def test_an_id_that_stands_twice_or_a_value_of_marks_alone_is_refused(tmp_path: Path) -> None:
    path = write_lume(tmp_path) / "forget.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([first, *others, first]))
    assert re.search(
        rf"forget.jsonl:{len(others) + 2}: id: .* stands at .*forget.jsonl:1 already", one_line("lume", tmp_path)
    )
    row = {"id": "xqa0", "input": "Which?", "output": "...", "task": "Task2"}
    path.write_text(json.dumps(row))
    assert "forget.jsonl:1: output: '...' has no letter or digit" in one_line("lume", tmp_path)


@pytest.mark.parametrize("mark", ["[", '{"a":'])
def test_a_file_that_is_nested_too_deep_is_one_line(tmp_path: Path, mark: str) -> None:
    write_lume(tmp_path)
    (tmp_path / "forget.jsonl").unlink()
    (tmp_path / "forget.json").write_text(mark * 200_000)
    assert re.search("forget.json.*nested", one_line("lume", tmp_path))


def test_a_half_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write_lume(tmp_path)
    write_lume(tmp_path / "old")
    assert "forget.json or .jsonl is there twice, keep one" in one_line("lume", tmp_path)
    assert "no such folder" in one_line("lume", tmp_path / "none")


def test_the_hub_is_asked_where_there_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = write_lume(tmp_path), list[tuple[str, Any, str]]()

    def load_dataset(path: str, config: str | None, split: str) -> list[Any]:
        asked.append((path, config, split))
        return [row for _, row in read_jsonl(folder / f"{split.removesuffix('_train')}.jsonl")]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    questions: list[Question] = BENCHMARKS.get("lume")(None)
    assert questions == BENCHMARKS.get("lume")(folder)
    assert [split for _, _, split in asked] == ["forget_train", "retain_train"]


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **kwargs: Any) -> list[Any]:
        raise ConnectionError("no network\nat all")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    for name in ("tofu", "knowundo", "unlearnpii"):
        with pytest.raises(NescioError, match="give --data FOLDER") as caught:
            BENCHMARKS.get(name)(None)
        assert "\n" not in str(caught.value)
