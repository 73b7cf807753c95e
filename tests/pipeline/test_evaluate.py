"""What a recipe makes of the table: the sentences of its rows, and what is said where there are fewer than asked."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.data.samples import Sample
from nescio.evaluation.measures.everyday import prompts
from nescio.evaluation.measures.words import all_questions
from nescio.evaluation.setups import Setup
from nescio.pii.base import Span
from nescio.pipeline.context import Context
from nescio.pipeline.evaluate import _beside_counts, _row, check_detector, measures, table_setups, task
from nescio.pipeline.recipe import Recipe


def context(folder: Path, notes: list[str], **evaluate: Any) -> Context:
    recipe = {
        "base": "b", "tuned": "t", "data": {"dialogs": "d"}, "evaluate": evaluate,
        "pairs": {"positive": "Say no names.", "negative": "Say names."}, "detector": {"model": "spacy:en_core_web_sm"},
    }  # fmt: skip
    return Context(Recipe.model_validate(recipe), folder, notes.append)


def ask(run: Context, setups: list[Setup]) -> None:
    """Collect what is asked, without asking."""
    asked = task(run, setups, lambda done, total, word: None)
    for measure in measures(run.recipe.evaluate):
        list(measure.asks(asked))


def test_a_sentence_is_the_rows_or_its_adapters_or_the_runs(tmp_path: Path) -> None:
    (tmp_path / "nescio.json").write_text(json.dumps({"positive": "Keep it.", "negative": "Tell it.", "epoch": 1}))
    rows: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({}, ("Say no names.", "Say names.")),
        ({"adapter": str(tmp_path)}, ("Keep it.", "Tell it.")),
        ({"adapter": str(tmp_path), "guidance": {"positive": "Hush.", "negative": ""}}, ("Hush.", "")),
    ]
    scale = {"scale": 3}
    rows = [(row | {"guidance": scale | row.get("guidance", {})}, sentences) for row, sentences in rows]
    run = context(tmp_path, [], rows=[{"name": f"r{n}"} | row for n, (row, _) in enumerate(rows)])
    for section, (_, sentences) in zip(run.recipe.evaluate.rows, rows, strict=True):
        guidance = _row(run, section, *run.sentences).guidance
        assert guidance and (guidance.positive, guidance.negative) == sentences


def test_two_rows_of_one_name_are_refused_with_the_key_to_change(tmp_path: Path) -> None:
    for change in ({"scales": [2, 2.0]}, {"scales": [2, 2.0000001]}, {"scales": [2], "plausibility": [0.1, 0.1]}):
        with pytest.raises(NescioError, match="two rows would be called 'trained-log-2"):
            table_setups(context(tmp_path, [], **change))
    with pytest.raises(NescioError, match=r"evaluate\.rows: name 'tuned' is taken"):
        table_setups(context(tmp_path, [], rows=[{"name": "tuned"}]))


def test_samples_of_a_dialog_that_is_gone_are_one_line(tmp_path: Path, tiny_folder: Path) -> None:
    sample = Sample("d:0", "d", [{"role": "user", "content": "I am Tom."}], " Tom.", "NAME", "Tom")
    write_jsonl(tmp_path / "samples/test.jsonl", [asdict(sample)])
    write_jsonl(tmp_path / "data/test.jsonl", [])
    with pytest.raises(NescioError, match=r"samples/test\.jsonl: samples of the dialog 'd', which data/test\.jsonl"):
        ask(context(tmp_path, []), [Setup("tuned", "tuned", str(tiny_folder))])


def test_fewer_than_asked_for_is_said_of_each(tmp_path: Path, tiny_folder: Path) -> None:
    sample = Sample("d:0", "d", [{"role": "user", "content": "I am Tom."}], " Tom.", "NAME", "Tom")
    for side in ("train", "test"):
        write_jsonl(tmp_path / f"samples/{side}.jsonl", [asdict(sample)])
        dialog = {"id": "d", "messages": [*sample.messages, {"role": "assistant", "content": "Hi Tom."}]}
        write_jsonl(tmp_path / f"data/{side}.jsonl", [dialog | {"pii": {"NAME": "Tom"}}])
    setups = [Setup("tuned", "tuned", str(tiny_folder))]
    asked = {
        "samples": 2, "leak_draws": 1, "leak_samples": 3, "attack_samples": 4, "question_count": 500,
        "harmless_prompts": 50, "words": 5000, "everyday": 500, "asked_for_samples": 5,
    }  # fmt: skip
    notes: list[str] = []
    ask(context(tmp_path, notes, **asked), setups)
    assert notes == [
        f"asked for {wanted} {what}, but only {there} exist; using all of them"
        for what, wanted, there in (
            ("samples", 2, 1), ("asked-for samples", 5, 1), ("questions", 500, 160),
            ("questions in words", 5000, len(all_questions())),
            ("leak samples", 3, 1), ("attacked samples", 4, 1), ("harmless prompts", 50, 40),
            ("everyday prompts", 500, len(prompts(500))),
        )
    ]  # fmt: skip
    notes.clear()
    none = dict.fromkeys(("question_count", "harmless_prompts", "words", "everyday", "asked_for_samples"), 0)
    ask(context(tmp_path, notes, samples=1, **none), setups)
    assert not notes


@pytest.mark.parametrize(("keep", "validation", "left"), [("last", 4, 9), ("loss", 4, 5), ("leakage", 5, 9)])
def test_the_table_asks_no_dialog_that_chose_the_epoch(tmp_path: Path, keep: str, validation: int, left: int) -> None:
    samples = [Sample(f"d{n}:0", f"d{n}", [{"role": "user", "content": "Hi."}], " Tom.", "X", "Tom") for n in range(9)]
    write_jsonl(tmp_path / "samples/test.jsonl", map(asdict, samples))
    notes: list[str] = []
    recipe = context(tmp_path, notes).recipe
    data = recipe.data.model_copy(update={"validation_samples": validation})
    train = recipe.train.model_copy(update={"keep": keep})
    run = Context(recipe.model_copy(update={"data": data, "train": train}), tmp_path, notes.append)
    asked = {sample.dialog_id for sample in run.table_samples()}
    assert len(asked) == left
    chose = {sample.dialog_id for sample in run.validation_samples()}
    assert asked.isdisjoint(chose) == (keep == "loss"), "with four dialogs no leak could be shown to be less"
    assert [note.partition(" chose")[0] for note in notes] == (["train.keep: leakage"] if keep == "leakage" else [])


class Sees:
    """Finds the words it is given."""

    name = "sees"

    def __init__(self, *words: str) -> None:
        self._words = words

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[Span(t.index(w), t.index(w) + len(w), "NAME", w) for w in self._words if w in t] for t in texts]


@pytest.mark.parametrize(("words", "recall"), [(("Tom", "Rome"), 1), (("Tom",), 0.75), ((), 0)])
def test_the_detector_is_checked_on_the_runs_own_slots(tmp_path: Path, words: tuple[str, ...], recall: float) -> None:
    turns = [{"role": "user", "content": "I am Tom."}, {"role": "assistant", "content": "Hi Tom of Rome."}]
    rows = [{"id": "d", "messages": turns, "pii": {"NAME-1": "Tom", "LOC-1": "Rome"}}, {"id": "e", "messages": turns}]
    write_jsonl(tmp_path / "data/test.jsonl", rows)
    write_jsonl(tmp_path / "data/train.jsonl", [rows[1] | {"id": "f", "pii": {"NAME-1": "Tom"}, "messages": [
        {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ask Tom."}
    ]}])  # fmt: skip
    run = context(tmp_path, [])
    run.__dict__["detector"] = Sees(*words)
    checked = check_detector(run)
    assert checked and checked["all"]["pieces"] == 4 and checked["all"]["recall"] == recall
    beside = _beside_counts(run, checked)
    assert beside["detector"] == "sees" and beside["detector_seen"]["all"]["recall"] == recall
    assert beside["detector_seen"]["place"]["pieces"] == 1


def test_without_slots_the_detector_is_only_named(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "I am Tom."}, {"role": "assistant", "content": "Hi Tom."}]
    for side in ("test", "train"):
        write_jsonl(tmp_path / f"data/{side}.jsonl", [{"id": side, "messages": turns}])
    run = context(tmp_path, [])
    run.__dict__["detector"] = Sees("Tom")
    assert check_detector(run) is None
    assert _beside_counts(run, None) == {"detector": "sees"}
