"""The paper's tables: their numbers, the trainings behind them, and the layout beside ours."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nescio.data.strategies import STRATEGIES
from nescio.pipeline.recipe import Recipe
from nescio.reproduction import figures
from nescio.reproduction.paper import TABLE1, TABLE3, TABLES
from nescio.reproduction.tables import table
from nescio.reproduction.trainings import variant_recipe

RECIPE = Recipe.model_validate({"base": "smollm2", "tuned": "smollm2", "data": {"synthetic": {"dialogs": 9}}})

PAPER = {
    "table1": """
Model-ch (baseline) | 42.9 | 246
Model-sub | 0 | 175
Model-sub-lora (2 epoch) | 34.3 | 96
Model-sub-lora (3 epoch) | 32.9 | 88
Model-sub-lora-cfg=1 (2 epoch) | 21.4 | 28
Model-sub-lora-cfg=1 (3 epoch) | 30 | 27
Model-sub-lora-cfg=2 (2 epoch) | 22.9 | 5
Model-sub-lora-cfg=2 (3 epoch) | 30 | 4
Model-ch-lora (2 epoch) | 45.7 | 4
Model-ch-lora (3 epoch) | 44.3 | 11
Model-ch-lora-cfg=1 (2 epoch) | 45.7 | 12
Model-ch-lora-cfg=2 (2 epoch) | 47.1 | 3
Model-ch-lora-cfg=1 (3 epoch) | 45.7 | 12
Model-ch-lora-cfg=2 (3 epoch) | 44.3 | 5
Model-ch-lora-cfg=3 (3 epoch) | 45.7 | 1
""",
    "table2": """
GPT-data model, cfg=1 (1 epoch) | 42.9 | 35
GPT-data model, cfg=2 (1 epoch) | 42.9 | 20
GPT-data model, cfg=1 (2 epoch) | 48.6 | 39
GPT-data model, cfg=2 (2 epoch) | 47.1 | 21
GPT-data model, cfg=1 (3 epoch) | 45.7 | 38
GPT-data model, cfg=2 (3 epoch) | 45.7 | 26
Llama-data model, cfg=1 (1 epoch) | 41.4 | 3
Llama-data model, cfg=2 (1 epoch) | 41.4 | 0
Llama-data model, cfg=1 (2 epoch) | 41.4 | 15
Llama-data model, cfg=2 (2 epoch) | 41.4 | 5
Llama-data model, cfg=1 (3 epoch) | 47.1 | 20
Llama-data model, cfg=2 (3 epoch) | 47.1 | 5
""",
    "table3": """
Model-ch-lora (3 epoch) | 11 | 27
Model-ch-lora-cfg=3 (3 epoch) | 3 | 19
""",
}
"""The tables as they stand in the paper's text: correct of MMLU-Pro and personal data; in Table 3 the latter twice."""


def results(pii: int) -> dict[str, Any]:
    return {
        "pii": pii, "pii_ci95": [pii - 1, pii + 2], "utility": 0.5, "utility_ci95": [0.4, 0.6], "degenerate": 0.02,
        "on_topic": 0.9,
    }  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("name", PAPER)
def test_every_row_has_the_papers_numbers_and_is_what_the_paper_calls_it(name: str) -> None:
    stated = [line.split(" | ") for line in PAPER[name].strip().splitlines()]
    for (method, *numbers), row in zip(stated, TABLES[name], strict=True):
        ours = [row.pii, row.pii_more] if name == "table3" else [row.mmlu, row.pii]
        assert (row.method, ours) == (method, [float(number) for number in numbers])
        epoch, scale = re.search(r"\((\d) epoch", method), re.search(r"cfg=(\d)", method)
        assert (row.epoch, row.scale) == (epoch and int(epoch[1]), int(scale[1]) if scale else 1)
        assert row.space == ("prob" if name == "table3" else "log")


def test_the_mmlu_of_table_3_is_the_one_in_the_text_beside_it() -> None:
    assert [row.mmlu for row in TABLE3] == [None, 45.7]


def test_a_table_in_the_papers_layout_with_ours_beside_it() -> None:
    lines = table(TABLE1, [[results(number) for number in range(15)]]).splitlines()
    assert cells(lines[0])[:3] == ["method", "paper's MMLU", "paper's PII"]
    assert cells(lines[2]) == ["Model-ch (baseline)", "42.9 %", "246", "50 % [40, 60]", "0 [-1, 2]", "2 %", "90 %"]
    assert cells(lines[-1])[0] == "Model-ch-lora-cfg=3 (3 epoch)" and cells(lines[-1])[4] == "14 [13, 16]"


def test_table_3_has_both_sizes_and_the_tuned_model_as_a_measure() -> None:
    lines = table(TABLE3, [[results(n) for n in (71, 11, 3)], [results(n) for n in (210, 30, 9)]]).splitlines()
    assert [cells(line)[0] for line in lines[2:]] == [
        "Model-ch, not in the paper's table", "Model-ch-lora (3 epoch)", "Model-ch-lora-cfg=3 (3 epoch)"
    ]  # fmt: skip
    assert cells(lines[4])[1:7] == ["45.7 %", "3", "19", "50 % [40, 60]", "3 [2, 5]", "9 [8, 11]"]


def test_a_judged_table_has_a_column_more() -> None:
    judged = {"judged": 0.25, "judged_ci95": [0.1, 0.5]}
    head, _, _, row, _ = table(TABLE3, [[results(n) | judged for n in (71, 11, 3)]]).splitlines()
    assert cells(head)[3:] == ["our utility [95 %]", "our PII", "judged [95 %]", "degenerate", "on-topic"]
    assert cells(row)[4:6] == ["11 [10, 13]", "25 % [10, 50]"]


def test_each_training_differs_in_what_its_name_says() -> None:
    assert variant_recipe(RECIPE, "ch-cfg") == RECIPE
    assert not variant_recipe(RECIPE, "ch").pairs.twins
    both = variant_recipe(RECIPE, "sub")
    assert both.subtract is not None and both.subtract.coefficient == 0.5 and not both.pairs.twins
    assert variant_recipe(RECIPE, "sub-cfg").pairs.twins
    for source in ("nudge", "system"):
        assert source in STRATEGIES
        assert variant_recipe(RECIPE, source).generate.sources[0].strategies == [source]


def test_a_training_is_what_its_name_says_whatever_the_recipe_says() -> None:
    other = {"subtract": {"coefficient": 1.0, "relu": True}, "pairs": {"twins": False, "positive": "Hush."}}
    recipe = Recipe.model_validate(RECIPE.plain() | other)
    own = {
        variant: variant_recipe(recipe, variant) for variant in ("ch-cfg", "ch", "sub-cfg", "sub", "nudge", "system")
    }
    assert {name for name, one in own.items() if one.subtract} == {"sub-cfg", "sub"}
    assert {name for name, one in own.items() if not one.pairs.twins} == {"ch", "sub"}
    assert {one.pairs.positive for one in own.values()} == {"Hush."}


def test_two_sources_are_compared_by_equally_many_pairs_of_each() -> None:
    sources = [{"name": "gpt", "engine": "openai", "model": "m", "strategies": ["chat-nudge"]}, {"name": "llama"}]
    two = Recipe.model_validate(RECIPE.plain() | {"generate": {"sources": sources}})
    for variant, source in (("nudge", "gpt"), ("system", "llama")):
        one = variant_recipe(two, variant)
        assert (one.pairs.sources, one.pairs.balance) == ([source], ["gpt", "llama"])
        assert one.generate == two.generate, "the answers are asked for once"


def test_figures_are_files_of_both_kinds(tmp_path: Path) -> None:
    row = {"epoch": 1.0, "loss": 2.0, "nll": 1.9, "odds_loss": 0.7, "chosen_reward": -0.1, "rejected_reward": -0.2}
    log = [row | {"split": split, "step": 1, "margin": 0.1, "accuracy": 0.5} for split in ("train", "eval")]
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in log))
    paths = figures.draw(tmp_path, tmp_path / "figures")
    assert [path.name for path in paths] == [f"figure{n}.{kind}" for n in range(1, 5) for kind in ("svg", "png")]
    assert paths[1].read_bytes().startswith(b"\x89PNG") and "<svg" in paths[0].read_text()


def test_definition_areas_reach_where_the_paper_says() -> None:
    """Log space is unbounded where the negative branch is unlikely, at any x; probability space stays within ± 1."""
    log, prob = (figures.definition_area(name, of).axes[0] for name, of in (("l", figures.np.log), ("p", lambda p: p)))
    assert log.get_zlim()[1] > 5  # type: ignore[attr-defined]
    assert prob.get_zlim()[1] == pytest.approx(1, abs=0.15)  # type: ignore[attr-defined]
