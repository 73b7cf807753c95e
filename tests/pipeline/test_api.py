"""`nescio.fit` and `nescio.evaluate`: what they take, what they return, and that they do what the commands do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import nescio


def test_a_recipe_is_fitted_from_its_file_or_its_keys(
    world: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = nescio.fit(world / "recipe.yaml", tmp_path / "file")
    monkeypatch.chdir(world)
    keys = yaml.safe_load(Path("recipe.yaml").read_text())
    before = json.dumps(keys)
    same = nescio.fit(keys, str(tmp_path / "keys"))
    assert (adapter, same) == (tmp_path / "file/adapter", tmp_path / "keys/adapter")
    assert json.dumps(keys) == before, "the caller's mapping is left as it is"
    for folder in (adapter, same):
        assert not (folder.parent / "eval").exists()
        weights = "adapter_model.safetensors"
        assert (folder / weights).read_bytes() == (finished / "adapter" / weights).read_bytes(), "as the command's"
    assert (tmp_path / "file/recipe.yaml").read_text() == (tmp_path / "keys/recipe.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trian": {}}, r"^nescio.fit: trian: unknown key; known here: preset, seed, base"),
        ({"train": {"lr": 1}}, r"^nescio.fit: train\.lr: unknown key; known here: epochs"),
        ({"seed": -1}, r"^nescio.fit: seed: input should be greater than or equal to 0"),
        ({"tuned": "x"}, r"^nescio.fit: recipe: give either tuned: MODEL, or tune:"),
    ],
)
def test_a_wrong_key_is_one_line(world: Path, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    keys = yaml.safe_load((world / "recipe.yaml").read_text())
    with pytest.raises(nescio.NescioError, match=said) as caught:
        nescio.fit(keys | change, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_what_is_no_path_is_one_line(world: Path, tmp_path: Path) -> None:
    fit: Any = nescio.fit
    with pytest.raises(nescio.NescioError, match=r"^nescio\.fit: must be a path, is None$"):
        fit(None)
    with pytest.raises(nescio.NescioError, match=r"^nescio\.fit: out: must be a path, is 3$"):
        fit(world / "recipe.yaml", 3)
    evaluate: Any = nescio.evaluate
    with pytest.raises(nescio.NescioError, match=r"^nescio\.evaluate: must be a path, is \['run'\]$"):
        evaluate(["run"])


def test_an_evaluation_takes_the_keys_of_its_section(tmp_path: Path, finished: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    rows = nescio.evaluate(str(run), scales=[1.5], spaces=["prob"], samples=2, question_count=0, harmless_prompts=0)
    assert rows == json.loads((run / "eval/results.json").read_text())
    assert [(row["model"], row["space"], row["scale"]) for row in rows if row["space"]] == [("trained", "prob", 1.5)]
    assert {row["samples"] for row in rows} == {2}
    assert yaml.safe_load((run / "recipe.yaml").read_text())["evaluate"]["scales"] == [1.5]
    with pytest.raises(nescio.NescioError, match=r"^nescio\.evaluate: scale: unknown key; known here: engine, samples"):
        nescio.evaluate(run, scale=3)
    with pytest.raises(nescio.NescioError, match=r"^nescio\.evaluate: rows: 0\.name: missing; add it"):
        nescio.evaluate(run, rows=[{"adapter": run / "adapter"}])
    with pytest.raises(nescio.NescioError, match=r"nowhere\.jsonl: no such file; check the path"):
        nescio.evaluate(run, questions=tmp_path / "nowhere.jsonl", question_count=1)
    (run / "adapter").rename(tmp_path / "adapter")
    with pytest.raises(nescio.NescioError, match="adapter is missing; finish the run first"):
        nescio.evaluate(run)
    with pytest.raises(nescio.NescioError, match=r"none: no run folder, it has no recipe\.yaml"):
        nescio.evaluate(tmp_path / "none")
