"""A table and replacement answers asked of vLLM: what the torch engine gives, whoever is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.data.samples import Sample
from nescio.engines.base import Request
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.base import Task
from nescio.evaluation.one_engine import OneEngine
from nescio.evaluation.run import evaluate, open_measure
from nescio.evaluation.setups import Setup
from nescio.pipeline.prepare import source_of
from nescio.pipeline.recipe import Recipe

OPTIONS = {
    "enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 1 << 28, "max_model_len": 512, "max_num_seqs": 16,
}  # fmt: skip
WORDS = ["Anna", "Tom", "Geneva", "letters", "my name", "please write"]


class Nobody:
    """A detector that finds nothing."""

    name = "nobody"

    def find(self, texts: Any) -> list[list[Any]]:
        return [[] for _ in texts]


def samples() -> list[Sample]:
    return [
        Sample(f"d{n}:1:0", f"d{n}", [{"role": "user", "content": f"Who is {word}?"}], "Tom.", "PERSON", "Tom")
        for n, word in enumerate(WORDS)
    ]


def test_a_table_is_the_torch_engines(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    how = Guidance(3.0, "prob", PROTECT, REVEAL)
    tuned = Setup("tuned", "tuned", str(tiny_model))
    guided = Setup("guided", "guided", str(tiny_model), adapter=str(tiny_adapter), guidance=how)
    setups = [tuned, guided, replace(guided, name="plain", guidance=replace(how, scale=1.0))]
    measures = [
        open_measure("choices", count=2),
        open_measure("harmless", prompts=2),
        open_measure("slot_attack", samples=6),
    ]

    def evaluated(engine: OneEngine) -> tuple[list[dict[str, Any]], Any]:
        task = Task(
            setups=setups, samples=samples(), own=[{}] * 6, training=lambda count: [(one, {}) for one in samples()],
            max_tokens=12, base=str(tiny_model), protect="", detector=Nobody(), engine=engine,
            answers=tmp_path / engine.kind, verdicts=tmp_path / "verdicts.jsonl",
        )  # fmt: skip
        return evaluate(task, measures)

    expected, right = evaluated(OneEngine())
    found, answers = evaluated(OneEngine("vllm", OPTIONS))
    assert answers == right
    for row, on_torch in zip(found, expected, strict=True):
        assert (row["utility"], row["attack"]) == (on_torch["utility"], on_torch["attack"])
        assert row["divergence"] is not None
    assert found[0]["divergence"] == pytest.approx(0, abs=1e-3)


def test_a_source_of_replacement_answers(tiny_model: Path, reference: TorchEngine) -> None:
    recipe = Recipe.model_validate(
        {
            "base": str(tiny_model), "tuned": str(tiny_model), "data": {"dialogs": "dialogs.jsonl"},
            "generate": {"sources": [{"engine": {"kind": "vllm", "options": OPTIONS}}]},
        }
    )  # fmt: skip
    source = source_of(recipe, recipe.generate.sources[0])
    asked: Any = [Request("Anna lives in", adapter=None, max_tokens=8)]
    assert source.engine.generate(asked) == reference.generate(asked)
    assert source.identity.endswith("on vLLM")
    source.engine.close()
