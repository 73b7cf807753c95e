"""An engine of another package says itself whether it asks over the network; sources and judges go by its word."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tiny_run import Quiet

from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.engines.base import Answer, Engine, Request
from nescio.engines.registry import ENGINES, endpoint, is_endpoint
from nescio.pipeline.prepare import source_of
from nescio.pipeline.recipe import load_recipe
from nescio.pipeline.run import Run


class Far(Engine):
    """A network engine of another package: says one word."""

    is_endpoint = True
    opened: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def __init__(self, model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> None:
        self.opened.append((model, dict(options)))

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        return [Answer("Correct", [], "stop") for _ in requests]


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    assert "torch" in ENGINES  # the built-in kinds are registered
    monkeypatch.setitem(ENGINES._items, "far", Far)
    monkeypatch.setattr(Far, "opened", [])
    return Far.opened


def test_the_registered_engine_says_it(far: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_endpoint("far") and is_endpoint("openai")
    assert not any(map(is_endpoint, ("torch", "local", "vllm")))
    monkeypatch.setitem(ENGINES._items, "marked", endpoint(partial(Far)))
    assert is_endpoint("marked")


def test_a_source_on_it_is_no_local_model(world: Path, far: list[Any]) -> None:
    options = "{region: eu}"
    given = f"generate.sources=[{{name: f, engine: {{kind: far, options: {options}}}, model: base, key_env: null}}]"
    recipe = load_recipe(world / "recipe.yaml", [given])
    section = recipe.generate.sources[0]
    assert section.is_endpoint and section.model == "base", "not the folder of this name"
    source = source_of(recipe, section)
    assert far == [("base", {"region": "eu", "key_env": None})]
    assert source.identity == "base at None on far" and (source.together, source.concurrency) == (1, 8)
    for wrong, said in (
        ("{name: f, engine: far}", "model: missing; name the model as the endpoint does"),
        (
            "{name: f, model: m, engine: {kind: openai, options: {timeout: 3}}}",
            "options: timeout is a key next to engine",
        ),
    ):
        with pytest.raises(NescioError, match=said):
            load_recipe(world / "recipe.yaml", [f"generate.sources=[{wrong}]"])


def test_a_judge_on_it_is_asked_there(world: Path, tmp_path: Path, finished: Path, far: list[Any]) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    judge = "{model: base, base_url: 'http://far', engine: {kind: far, options: {region: eu}}}"
    recipe = load_recipe(world / "recipe.yaml", [f"evaluate.judge={judge}", "evaluate.scales=[]"])
    section = recipe.evaluate.judge
    assert section and section.is_endpoint
    Run(recipe, out, Quiet()).evaluate()
    assert {model for model, _ in far} == {"base"}, "a name at the endpoint, not the folder of this name"
    assert all(options == {"region": "eu", "base_url": "http://far"} for _, options in far) and len(far) == 2
