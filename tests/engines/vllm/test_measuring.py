"""A table and replacement answers asked of vLLM: what the torch engine gives, whoever is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.data.samples import Sample
from nescio.engines.base import Request
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.kept import Kept
from nescio.evaluation.measure import Plan, measure
from nescio.evaluation.measures.choices import Question
from nescio.evaluation.setups import Setup
from nescio.pipeline.prepare import source_of
from nescio.pipeline.recipe import Recipe

OPTIONS = {
    "enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 1 << 28, "max_model_len": 512, "max_num_seqs": 16,
}  # fmt: skip
WORDS = ["Anna", "Tom", "Geneva", "letters", "my name", "please write"]


def samples() -> list[Sample]:
    return [
        Sample(f"d{n}:1:0", f"d{n}", [{"role": "user", "content": f"Who is {word}?"}], "Tom.", "PERSON", "Tom")
        for n, word in enumerate(WORDS)
    ]


def test_a_table_is_the_torch_engines(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    how = Guidance(3.0, "prob", PROTECT, REVEAL)
    tuned = Setup("tuned", "tuned", str(tiny_model))
    guided = Setup("guided", "guided", str(tiny_model), str(tiny_adapter), how)
    setups = [tuned, guided, replace(guided, name="plain", guidance=replace(how, scale=1.0))]
    asked = Question("q", "field", "Who lives in Geneva?", ("Anna", "Tom", "my name"), 0, listed=False)
    on_torch = Plan(samples(), 12, questions=[asked], harmless=2, attacked=samples())
    on_vllm = replace(on_torch, engine="vllm", options=OPTIONS)
    expected, found = (
        measure(setups, plan, None, Kept(tmp_path / plan.engine), lambda *_: None)  # type: ignore[arg-type]
        for plan in (on_torch, on_vllm)
    )
    for name, right in expected.items():
        for measured in ("answers", "picks", "attacks"):
            assert getattr(found[name], measured) == getattr(right, measured)
        assert found[name].divergence is not None
    assert found["tuned"].divergence == pytest.approx(0, abs=1e-3)


def test_a_source_of_replacement_answers(tiny_model: Path, reference: TorchEngine) -> None:
    recipe = Recipe.model_validate(
        {
            "base": str(tiny_model), "tuned": str(tiny_model), "data": {"dialogs": "dialogs.jsonl"},
            "generate": {"sources": [{"engine": "vllm", "vllm": OPTIONS}]},
        }
    )  # fmt: skip
    source = source_of(recipe, recipe.generate.sources[0])
    asked: Any = [Request("Anna lives in", adapter=None, max_tokens=8)]
    assert source.engine.generate(asked) == reference.generate(asked)
    assert source.identity.endswith("on vLLM")
    source.engine.close()
