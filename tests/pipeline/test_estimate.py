"""What a run is said to take."""

from pathlib import Path
from typing import Any

import pytest
from tiny_run import Quiet
from transformers import LlamaConfig
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_jsonl
from nescio.pipeline.estimate import Cost, estimate
from nescio.pipeline.estimate_table import describe, describe_fits
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Run

PAPER = Path(__file__).parents[2] / "recipes/paper"
LLAMA_3_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip


def costs_of(recipe: Path, folder: Path, tokenizer: Any, *changes: str) -> dict[str, Cost]:
    """The estimate of a recipe with a model of Llama-3-8B's shape, of which there is nothing but the configuration."""
    LlamaConfig(**LLAMA_3_8B).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = [
        f"base={folder}", f"tuned={folder}", "data.dialogs=null", "data.synthetic={dialogs: 40}",
        "detector.model=spacy:en_core_web_sm", *changes,
    ]  # fmt: skip
    return {cost.stage: cost for cost in estimate(load_recipe(recipe, settings))}


@pytest.mark.parametrize("name", ["llama-3-8b", "llama-3-8b-sub", "llama-3.1-8b"])
def test_the_papers_recipes_are_estimated_without_the_weights(name: str, tmp_path: Path, llama3: Any) -> None:
    costs = costs_of(PAPER / f"{name}.yaml", tmp_path, llama3)
    weights = 8.03e9 * 4  # fp32, as on this CPU
    assert weights < costs["train"].memory < 2 * weights
    assert all(cost.seconds > 0 for cost in costs.values() if cost.stage in ("candidates", "train", "evaluate"))
    assert "all" in {str(cell) for cell in describe(list(costs.values())).columns[0].cells}


def test_what_is_measured_beside_leakage_is_counted(tmp_path: Path, llama3: Any) -> None:
    recipe = PAPER / "llama-3-8b.yaml"
    none = [f"evaluate.{name}=0" for name in ("question_count", "words", "everyday", "harmless_prompts")]
    few = costs_of(recipe, tmp_path, llama3, *none)["evaluate"]
    for change in (
        "harmless_prompts=10", "question_count=10", "words=10", "everyday=10", "leak_draws=4", "attack_samples=9",
        "baselines=true", "adaptive=true",
    ):  # fmt: skip
        more = costs_of(recipe, tmp_path, llama3, *none, f"evaluate.{change}")["evaluate"]
        assert more.tokens > few.tokens, change


def test_what_fits_a_card_is_computed_in_bf16_whatever_this_machine_has(tmp_path: Path, llama3: Any) -> None:
    costs = costs_of(PAPER / "llama-3-8b.yaml", tmp_path, llama3)
    train, evaluate = costs["train"].on_gpu, costs["evaluate"].on_gpu
    assert 5.3e9 < train["nf4"] < train["int8"] < train["bf16"] and train["bf16"] > 2 * 8.03e9
    assert [*evaluate] == ["bf16"]
    columns = [[str(cell) for cell in column.cells] for column in describe_fits(list(costs.values())).columns]
    cards = {stage: fits for stage, *fits in zip(columns[0], *columns[-3:], strict=True)}
    assert cards["train"][0].startswith("as nf4") and cards["train"][2] == "yes"
    assert cards["evaluate"][0] == "no" and cards["evaluate"][2] == "yes"
    on_int8 = costs_of(PAPER / "llama-3-8b.yaml", tmp_path, llama3, "train.quantize=int8")["train"]
    assert on_int8.memory < costs["train"].memory and on_int8.on_gpu == pytest.approx(train)


def test_vllm_answers_here_as_the_torch_engine_does(tmp_path: Path, llama3: Any) -> None:
    recipe = PAPER / "llama-3-8b.yaml"
    torch, vllm = (
        costs_of(recipe, tmp_path, llama3, f"generate.sources=[{{engine: {engine}}}]") for engine in ("torch", "vllm")
    )
    assert vllm["candidates"].items == torch["candidates"].items != "0 answers"
    assert vllm["train"].items == torch["train"].items != "0 pairs"


def test_the_split_that_will_be_made_is_counted(world: Path, tmp_path: Path) -> None:
    rows = [row for _, row in read_jsonl(world / "dialogs.jsonl")]
    copy = [row | {"id": f"{row['id']}-copy"} for row in rows]

    def costs(path: str, *changes: str) -> dict[str, Cost]:
        found = estimate(load_recipe(world / "recipe.yaml", [f"data.dialogs={tmp_path / path}", *changes]))
        return {cost.stage: cost for cost in found}

    write_jsonl(tmp_path / "twice.jsonl", [*rows, *copy])
    found = costs("twice.jsonl", "data.train_samples=null")
    assert found["data"].items == "48 dialogs, 36 to train on, 6 held out"
    assert found["tune"].items == "36 dialogs"
    write_jsonl(tmp_path / "test.jsonl", [*copy[:4], {"messages": []}])
    found = costs("twice.jsonl", f"data.test={tmp_path / 'test.jsonl'}")
    assert found["data"].items == "48 dialogs, 40 to train on, 4 held out"
    with pytest.raises(NescioError, match=r"no dialog is left to train on \(all stand in data\.test\)"):
        costs("test.jsonl", f"data.test={tmp_path / 'test.jsonl'}")
    with pytest.raises(NescioError, match=r"48 different dialogs with test_share 0\.001 leave one side empty"):
        write_jsonl(
            tmp_path / "many.jsonl", [row | {"messages": _renamed(row, n)} for n, row in enumerate(rows + copy)]
        )
        costs("many.jsonl", "data.test_share=0.001")


def _renamed(row: dict[str, Any], number: int) -> list[dict[str, str]]:
    first, *rest = row["messages"]
    return [first | {"content": f"{first['content']} ({number})"}, *rest]


def test_a_dry_run_shows_the_stages_up_to_the_last_one_that_is_asked_for(world: Path) -> None:
    recipe = load_recipe(world / "recipe.yaml")
    stages = Run(recipe, world / "none", Quiet()).check("pairs")
    assert [cost.stage for cost in estimate(recipe, stages)] == ["data", "tune", "samples", "candidates"]
    shown = CliRunner().invoke(app, ["run", str(world / "recipe.yaml"), "--dry-run", "--until", "pairs"])
    assert "candidates" in shown.output and "evaluate" not in shown.output, shown.output
    shown = CliRunner().invoke(app, ["run", str(world / "recipe.yaml"), "--dry-run", "--until", "data"])
    assert shown.exit_code == 0 and "On a GPU" not in shown.output, "no stage of a model"


def test_dialogs_of_which_none_can_be_read_are_one_line(world: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"messages": []}\n')
    with pytest.raises(NescioError, match=r"bad\.jsonl: no dialog can be read"):
        estimate(load_recipe(world / "recipe.yaml", [f"data.dialogs={tmp_path / 'bad.jsonl'}"]))
