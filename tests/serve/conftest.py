"""Servers around a tiny model with an adapter."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from running import POLICIES, Running

from nescio.engines.torch import CACHE_TOKENS, TorchEngine


@pytest.fixture(scope="session")
def adapter_folder(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any]) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("adapter")
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(make_model("llama"), config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def start(tiny: Callable[..., TorchEngine], adapter_folder: Path) -> Callable[..., Running]:
    """Start a server: `start(policies=…, rows=…, queue=…)`; whoever starts it stops it."""

    def make(
        policies: str = POLICIES, rows: int = 8, queue: int = 32, cache_tokens: int = CACHE_TOKENS, **options: Any
    ) -> Running:
        engine = tiny(max_rows=rows, cache_tokens=cache_tokens)
        engine.load_adapter("careful", adapter_folder)
        return Running(engine, policies, rows, queue, **options)

    return make


@pytest.fixture(scope="module")
def server(start: Callable[..., Running]) -> Iterator[Running]:
    running = start()
    yield running
    running.stop()
