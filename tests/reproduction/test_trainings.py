"""The paper's tables made on a tiny model: their trainings, shared, and all their rows."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from endpoint import running
from safetensors.torch import load_file
from tiny_run import CLEAN, Quiet

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.pipeline.recipe import load_recipe
from nescio.reproduction.paper import TABLES
from nescio.reproduction.tables import reproduce
from nescio.reproduction.trainings import train


def test_tables_of_the_paper_share_their_trainings(world: Path, tmp_path: Path) -> None:
    recipe, quiet = load_recipe(world / "recipe.yaml"), Quiet()
    lines = reproduce("table3", recipe, tmp_path, quiet).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        "Model-ch, not in the paper's table", "Model-ch-lora (3 epoch)", "Model-ch-lora-cfg=3 (3 epoch)"
    ]  # fmt: skip
    assert quiet.done.count("tune") == quiet.done.count("candidates") == 1
    assert quiet.done.count("train") == 2
    assert (tmp_path / "table3.md").read_text().splitlines() == lines
    rows = json.loads((tmp_path / "table3/8/results.json").read_text())
    assert [row["name"] for row in rows] == ["tuned", "ch-3-1", "ch-cfg-3-3"]
    one, other = (load_file(tmp_path / f"{run}/adapter/adapter_model.safetensors") for run in ("ch", "ch-cfg"))
    assert any(not torch.equal(one[key], other[key]) for key in one), "with twins and without"
    again = Quiet()
    assert reproduce("table3", recipe, tmp_path, again).splitlines() == lines
    assert "train" not in again.done
    if find_spec("vllm") is None:
        elsewhere = load_recipe(world / "recipe.yaml", ["evaluate.engine=vllm"])
        with pytest.raises(NescioError, match="vLLM is not installed"):
            reproduce("table3", elsewhere, tmp_path, again)


@pytest.mark.parametrize(
    ("name", "epochs", "shown"),
    [("table1", 1, ["Model-ch (baseline)", "Model-sub"]), ("table3", 2, ["Model-ch, not in the paper's table"])],
)
def test_a_table_has_the_rows_that_the_recipe_has_epochs_for(
    world: Path, tmp_path: Path, name: str, epochs: int, shown: list[str]
) -> None:
    quiet = Quiet()
    recipe = load_recipe(world / "recipe.yaml", [f"train.epochs={epochs}", "evaluate.question_count=0"])
    lines = reproduce(name, recipe, tmp_path, quiet).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:-2]] == shown
    left_out = ", ".join(row.method for row in TABLES[name] if row.epoch)
    assert lines[-1] == f"Left out, because train.epochs is {epochs}: {left_out}"
    assert "train" not in quiet.done, "no row wants a training"


def test_a_judge_that_the_recipe_names_is_asked_and_judged(world: Path, tmp_path: Path) -> None:
    with running(answer="Correct") as endpoint:
        judge = f"evaluate.judge={{model: far, base_url: {endpoint.url}}}"
        recipe = load_recipe(world / "recipe.yaml", ["train.epochs=1", "evaluate.samples=2", judge])
        lines = reproduce("table1", recipe, tmp_path, Quiet()).splitlines()
        asked = sum(endpoint.came.values())
        assert reproduce("table1", recipe, tmp_path, Quiet()).splitlines() == lines
        assert sum(endpoint.came.values()) == asked > 6, "every verdict is kept"
    assert lines[0].split(" | ")[5].strip() == "judged [95 %]"
    assert all(line.split(" | ")[5].strip().startswith("100 %") for line in lines[2:4])
    assert lines[-1] == (
        "Judge: far, right about 50 % of right and wrong answers made from the key; "
        "below 80 %, so its column is unusable."
    )


def test_a_training_shares_the_weights_it_begins_with_and_no_file_that_grows(world: Path, tmp_path: Path) -> None:
    recipe, other = (load_recipe(world / "recipe.yaml", [f"generate.max_tokens={most}"]) for most in (20, 21))
    own = train(recipe, "nudge", tmp_path, Quiet(), until="candidates")
    common = tmp_path / "ch-cfg"
    before = (common / "paid.jsonl").read_bytes()
    train(other, "nudge", tmp_path, Quiet(), until="candidates")
    assert (common / "paid.jsonl").read_bytes() == before != (own / "paid.jsonl").read_bytes()
    assert (own / "tuned/model.safetensors").samefile(common / "tuned/model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "trainings"), [("table1", 4), ("table2", 2)])
def test_the_longer_tables_end_with_all_their_rows(world: Path, tmp_path: Path, name: str, trainings: int) -> None:
    quiet = Quiet()
    lines = reproduce(name, load_recipe(world / "recipe.yaml"), tmp_path, quiet).splitlines()
    extra = [] if name == "table1" else ["Model-ch, not in the paper's table"]
    shown = [line.split(" | ")[0].strip("| ") for line in lines[2:] if line.startswith("|")]
    assert shown == [*extra, *(row.method for row in TABLES[name])]
    assert quiet.done.count("train") == trainings
    assert quiet.done.count("tune") == 1


@pytest.mark.slow
def test_the_ablation_by_source_trains_an_adapter_of_each(world: Path, tmp_path: Path) -> None:
    """Answers of a local model and of an endpoint: asked for once, equally many pairs of each, one table."""
    with running(answer=CLEAN[0]) as endpoint:
        far = {"name": "far", "engine": "openai", "model": "m", "base_url": endpoint.url, "key_env": None,
               "strategies": ["chat-nudge", "nudge"], "share": 0.5}  # fmt: skip
        sources = json.dumps([far, {"name": "near"}])
        recipe = load_recipe(world / "recipe.yaml", [f"generate.sources={sources}", "train.epochs=1"])
        quiet = Quiet()
        lines = reproduce("table2", recipe, tmp_path, quiet).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:-4]] == [
        "Model-ch, not in the paper's table",
        *(row.method for row in TABLES["table2"] if row.epoch == 1),
    ]
    assert lines[-1] == "GPT-data: answers of far; Llama-data: answers of near"
    assert (quiet.done.count("tune"), quiet.done.count("candidates"), quiet.done.count("train")) == (1, 1, 2)
    assert set(endpoint.came.values()) == {1}
    pairs = {name: [r for _, r in read_jsonl(tmp_path / f"{name}/pairs/train.jsonl")] for name in ("nudge", "system")}
    assert {row["source"] for row in pairs["nudge"]} == {"far"} and {row["source"] for row in pairs["system"]} == {
        "near"
    }
    assert len(pairs["nudge"]) == len(pairs["system"]) > 2
    adapters = [load_file(tmp_path / name / "adapter/adapter_model.safetensors") for name in pairs]
    assert any(not torch.equal(adapters[0][key], adapters[1][key]) for key in adapters[0])
