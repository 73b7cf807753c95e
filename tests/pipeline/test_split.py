"""The stage `data`: copies of a conversation never stand on both sides of the split, and bad rows are refused alike."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_jsonl
from nescio.data.dialogs import held_out
from nescio.data.synthetic import generate
from nescio.pipeline.context import Context
from nescio.pipeline.prepare import data
from nescio.pipeline.recipe import load_recipe

ROWS = generate(20, seed=3, max_exchanges=1)
Sides = dict[str, list[dict[str, Any]]]


def other_export(row: dict[str, Any]) -> dict[str, Any]:
    """The same conversation as another tool writes it."""
    messages = [{"role": m["role"], "content": m["content"].upper().replace(" ", "  ")} for m in row["messages"]]
    return {"id": f"{row['id']}-copy", "messages": [{"role": "system", "content": "Be brief."}, *messages]}


def split(folder: Path, rows: list[dict[str, Any]], **section: Any) -> tuple[Sides, list[str]]:
    """Split dialogs in a folder; return both sides and the notes."""
    write_jsonl(folder / "dialogs.jsonl", rows)
    given = {"dialogs": "dialogs.jsonl", "test_share": 0.25} | section
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"base": "smollm2", "tuned": "smollm2", "data": given}))
    notes: list[str] = []
    run = Context(load_recipe(folder / "recipe.yaml"), folder, notes.append)
    data(run, folder, lambda done, total, word: None)
    sides = {side: [row for _, row in read_jsonl(folder / f"data/{side}.jsonl")] for side in ("train", "test")}
    return sides, notes


def test_dialogs_without_copies_are_split_by_their_number(tmp_path: Path) -> None:
    """Results of earlier runs stay comparable."""
    sides, notes = split(tmp_path, ROWS)
    drawn = held_out(20, 0.25, 0)
    assert sides["test"] == [row for place, row in enumerate(ROWS) if place in drawn]
    assert sides["train"] == [row for place, row in enumerate(ROWS) if place not in drawn]
    assert notes == []


def test_copies_are_on_one_side_and_a_held_out_one_is_asked_once(tmp_path: Path) -> None:
    sides, notes = split(tmp_path, [*ROWS, *map(other_export, ROWS)])
    held = {row["id"] for row in sides["test"]}
    assert len(held) == 5 and held == {ROWS[place]["id"] for place in held_out(20, 0.25, 0)}
    trained = [row["id"].removesuffix("-copy") for row in sides["train"]]
    assert len(trained) == 30 and not held & {*trained}
    assert [note.split(":")[0] for note in notes] == ["20 dialogs are copies of others, with the same turns"]


def test_what_stands_in_the_test_file_is_not_trained_on(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "test.jsonl", [other_export(row) for row in [*ROWS[:5], ROWS[0] | {"id": "again"}]])
    sides, notes = split(tmp_path, ROWS, test="test.jsonl")
    assert sides["train"] == ROWS[5:]
    assert [row["id"] for row in sides["test"]] == [f"{row['id']}-copy" for row in ROWS[:5]]
    assert notes[0].startswith("1 dialogs are copies of others"), "of the test file"
    assert notes[1:] == ["5 of 20 dialogs stand in data.test too: they are held out, and not trained on"]
    with pytest.raises(NescioError, match=r"no dialog is left to train on \(3 of 3 stand in data\.test too\)"):
        split(tmp_path, ROWS[:3], test="test.jsonl")


def test_bad_rows_of_the_test_file_are_set_aside_too(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "test.jsonl", [other_export(ROWS[0]), {"messages": []}])
    sides, notes = split(tmp_path, [*ROWS[1:], {"messages": []}], test="test.jsonl", skip_bad=True)
    assert len(sides["test"]) == 1 and len(sides["train"]) == 19
    assert notes == ["2 bad rows were left out; they are in data/bad.jsonl"]
    bad = [row["error"].partition(": ")[0] for _, row in read_jsonl(tmp_path / "data/bad.jsonl")]
    assert bad == [f"{tmp_path / 'test.jsonl'}:2", f"{tmp_path / 'dialogs.jsonl'}:20"]
    with pytest.raises(NescioError, match=r"test\.jsonl:2: messages: missing or empty"):
        split(tmp_path, ROWS[1:], test="test.jsonl")
    write_jsonl(tmp_path / "test.jsonl", [{"messages": []}])
    with pytest.raises(NescioError, match=r"data\.test: .*: no dialog can be read"):
        split(tmp_path, ROWS[1:], test="test.jsonl", skip_bad=True)
