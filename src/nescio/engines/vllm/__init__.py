"""Guided decoding on vLLM: a guided request is two vLLM requests, scheduled together and combined in the sampler."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nescio.core.models import locate
from nescio.engines.base import Engine
from nescio.engines.registry import ENGINES


@ENGINES.register("vllm")
def _open(model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> Engine:
    """Open a model on vLLM, with space for its adapters; options are fields of `EngineArgs`."""
    from nescio.engines.vllm import settings, vllm_engine

    own = locate(model)[1] if adapters else None  # `load` reserves space for it only if no options do
    folders = [*([own] if own else []), *adapters.values()]
    lora = settings.lora_options(folders) if adapters else {}
    return vllm_engine.load(model, options={**lora, **options})
