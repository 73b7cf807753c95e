"""A file of dialogs to hold out, and a file of dialogs to keep: both are options of the data."""

import shutil
from pathlib import Path

import pytest
from tiny_run import Quiet

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_jsonl
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Run


def test_dialogs_of_other_files_are_held_out_and_kept(world: Path, tmp_path: Path) -> None:
    rows = [row for _, row in read_jsonl(world / "dialogs.jsonl")]
    for name, own in (("forget", rows[:8]), ("held", rows[8:12]), ("kept", rows[12:])):
        write_jsonl(tmp_path / f"{name}.jsonl", own)
    files = {key: f"data.{key}={tmp_path}/{name}.jsonl" for key, name in (("dialogs", "forget"), ("test", "held"))}
    sets = [*files.values(), "train.method=undial", "train.epochs=1", "train.beta=10", "pairs.twins=false"]
    out = tmp_path / "run"
    Run(load_recipe(world / "recipe.yaml", sets), out, Quiet()).execute("pairs")
    ids = {side: [row["id"] for _, row in read_jsonl(out / f"data/{side}.jsonl")] for side in ("train", "test")}
    assert ids == {"train": [row["id"] for row in rows[:8]], "test": [row["id"] for row in rows[8:12]]}
    # 1) without a half to keep, and with one: the stage is done again, and its log says so
    Run(load_recipe(world / "recipe.yaml", sets), out, Quiet()).execute("train")
    assert "retain" not in next(read_jsonl(out / "adapter/log.jsonl"))[1]
    quiet, kept = Quiet(), [*sets, f"data.retain={tmp_path}/kept.jsonl"]
    Run(load_recipe(world / "recipe.yaml", kept), out, quiet).execute("train")
    assert quiet.done == ["train"], "no other stage reads it"
    assert next(read_jsonl(out / "adapter/log.jsonl"))[1]["retain"] > 0


def test_bad_rows_of_both_files_are_met_before_the_first_stage(world: Path, tmp_path: Path, finished: Path) -> None:
    rows = [row for _, row in read_jsonl(world / "dialogs.jsonl")]
    write_jsonl(tmp_path / "bad.jsonl", [*rows[:4], {"messages": []}])
    write_jsonl(tmp_path / "none.jsonl", [{"messages": []}])
    bad, none = tmp_path / "bad.jsonl", tmp_path / "none.jsonl"
    for key in ("test", "retain"):
        for change, said in (
            ([f"data.{key}={bad}"], r"bad\.jsonl:5: messages: missing or empty"),
            ([f"data.{key}={none}", "data.skip_bad=true"], rf"data\.{key}: .*none\.jsonl: no dialog can be read"),
        ):
            with pytest.raises(NescioError, match=said):
                Run(load_recipe(world / "recipe.yaml", change), tmp_path / "out", Quiet()).check()
        Run(load_recipe(world / "recipe.yaml", [f"data.{key}={bad}", "data.skip_bad=true"]), tmp_path, Quiet()).check()
    # A half that is to be kept is read by the stage that needs it, without its bad rows.
    out, quiet = tmp_path / "run", Quiet()
    shutil.copytree(finished, out)
    changes = [f"data.retain={bad}", "data.skip_bad=true", "train.method=undial", "train.epochs=1"]
    Run(load_recipe(world / "recipe.yaml", changes), out, quiet).execute("train")
    assert any(f"data.retain: 1 bad rows were left out, the first: {bad}:5" in note for note in quiet.notes)


def test_a_teacher_that_needs_another_prompt_is_refused_before_anything_is_done(world: Path) -> None:
    with pytest.raises(NescioError, match=r"train.method=duet: duet: pairs have no prompts for its teacher"):
        load_recipe(world / "recipe.yaml", ["train.method=duet"])
