"""Engines by kind: options are checked, adapters are loaded or refused, another package's engine needs one function."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

import nescio
from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.engines.base import Answer, Engine, Request
from nescio.engines.kind_field import EngineKind
from nescio.engines.registry import ENGINES, open_engine

HELLO = [{"role": "user", "content": "Hello"}]


class Echo(Engine):
    """The least that an engine has to define."""

    is_closed = False

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        if any(request.max_tokens == 13 for request in requests):
            raise NescioError("13 tokens: unlucky")
        return [Answer(str(request.prompt[-1]["content"]), [], "stop") for request in requests]  # type: ignore[index]

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Echo]:
    """Registers the kind `echo`; collects the engines that are opened."""
    engines: list[Echo] = []

    def open_echo(model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> Engine:
        engines.append(Echo())
        return engines[-1]

    assert "torch" in ENGINES  # the built-in kinds are registered
    monkeypatch.setitem(ENGINES._items, "echo", open_echo)
    return engines


def test_the_built_in_kinds_are_known() -> None:
    assert {"torch", "local", "vllm", "openai"} <= set(ENGINES)
    assert TypeAdapter(EngineKind).validate_python("vllm") == "vllm"
    with pytest.raises(ValidationError, match=r"engine 'tgi': unknown; known here: .*torch"):
        TypeAdapter(EngineKind).validate_python("tgi")


def test_an_engine_of_one_method_chats_and_streams(opened: list[Echo]) -> None:
    with open_engine("echo", "m", {}, {}) as engine:
        assert engine.chat(HELLO) == nescio.chat(engine, HELLO) == "Hello"
        assert list(engine.stream(Request(HELLO))) == ["Hello"]
        with pytest.raises(NescioError, match="unlucky"):
            _ = engine.submit(Request(HELLO, max_tokens=13)).answer
        with pytest.raises(NescioError, match="Echo gives no likelihoods"):
            engine.score("a", "b")
    assert opened[0].is_closed


def test_adapters_that_an_engine_does_not_take_are_refused_and_it_is_closed(opened: list[Echo], tmp_path: Path) -> None:
    with pytest.raises(NescioError, match="adapter 'a': Echo takes no adapters"):
        open_engine("echo", "m", {"a": tmp_path}, {})
    assert opened[0].is_closed


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("torch", {"max_row": 2}, "engine torch: option 'max_row' is unknown; known: max_rows, precision"),
        ("torch", {"max_rows": "two"}, "engine torch: option max_rows: .*integer; got 'two'"),
        ("torch", {"adapter": "x"}, "option 'adapter' is unknown"),
        ("openai", {"base": "x"}, "engine openai: option 'base' is unknown; known: base_url"),
        ("no such", {}, "engine 'no such': unknown; known here: "),
    ],
)
def test_wrong_kinds_and_options_are_one_line(kind: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(NescioError, match=said):
        open_engine(kind, "no/model", {}, options)


def test_a_model_by_name_is_loaded_for_one_answer(tiny_folder: Path) -> None:
    with nescio.load(str(tiny_folder)) as engine:
        expected = engine.chat(HELLO, max_tokens=4)
    assert nescio.chat(str(tiny_folder), HELLO, max_tokens=4) == expected
    with open_engine("torch", str(tiny_folder), {}, {"max_rows": 2}) as own:
        assert own.chat(HELLO, max_tokens=4) == expected
