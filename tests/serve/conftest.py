"""Servers around a tiny model with an adapter.

On the torch engine; `NESCIO_TEST_ENGINE=vllm` puts the same tests on vLLM, where it is installed.
"""

import copy
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from running import POLICIES, Running

from nescio.engines.base import Engine
from nescio.engines.torch_engine import CACHE_TOKENS, TorchEngine

ON_VLLM = os.environ.get("NESCIO_TEST_ENGINE") == "vllm"
WIDE = {"hidden_size": 128} if ON_VLLM else {}  # vLLM's attention has no heads as narrow as the tiny model's

# What vLLM's environment does not have is tested in the other.
collect_ignore = [
    file
    for file, needs in (("test_schema.py", "schemathesis"), ("test_playground.py", "playwright"))
    if ON_VLLM and find_spec(needs) is None
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ON_VLLM and item.get_closest_marker("torch_engine"):
            item.add_marker(pytest.mark.skip(reason="about the torch engine"))


@pytest.fixture(scope="session")
def adapter_folder(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any]) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("adapter")
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(make_model("llama", **WIDE), config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_engine(
    tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any], chatml: Any, adapter_folder: Path
) -> Callable[..., Engine]:
    """Make an engine of so many rows and cached tokens around the tiny model; its template and sizes may be others."""

    def make(rows: int, cache_tokens: int, template: str | None = None, **changes: Any) -> Engine:
        model, tokenizer = make_model("llama", **WIDE | changes), copy.deepcopy(chatml)
        tokenizer.chat_template = template or tokenizer.chat_template
        if not ON_VLLM:
            return TorchEngine(model, tokenizer, max_rows=rows, cache_tokens=cache_tokens)
        from nescio.engines.vllm import settings, vllm_engine

        folder = tmp_path_factory.mktemp("models") / "tiny"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        options = {
            "enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 1 << 28, "seed": 0,
            "max_num_seqs": rows, **settings.lora_options([adapter_folder]),
        }  # fmt: skip
        return vllm_engine.load(str(folder), options=options)

    return make


@pytest.fixture(scope="session")
def start(make_engine: Callable[..., Engine], adapter_folder: Path) -> Callable[..., Running]:
    """Start a server: `start(policies=…, rows=…, queue=…)`; whoever starts it stops it."""

    def make(
        policies: str = POLICIES, rows: int = 8, queue: int = 32, cache_tokens: int = CACHE_TOKENS, **options: Any
    ) -> Running:
        engine = make_engine(rows, cache_tokens)
        engine.load_adapter("careful", adapter_folder)
        return Running(engine, policies, rows, queue, **options)

    return make


@pytest.fixture(scope="module")
def server(start: Callable[..., Running]) -> Iterator[Running]:
    running = start()
    yield running
    running.stop()
