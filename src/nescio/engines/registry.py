"""Opening an engine by its kind, with the adapters it will serve. Knows engines; nothing of who asks them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from nescio.core.models import locate
from nescio.engines.base import Engine

EngineKind = Literal["torch", "vllm"]
"""The engines that answer here: the one of this package, and vLLM's."""


def open_engine(kind: EngineKind, model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> Engine:
    """Load a model and its adapters.

    Args:
        kind: Which engine.
        model: As for `nescio.load`.
        adapters: Folder of each adapter by its name.
        options: Of the torch engine's `load`, or fields of vLLM's `EngineArgs`.

    Raises:
        NescioError: Something is missing, damaged, or does not fit.
    """
    engine = _vllm(model, adapters, options) if kind == "vllm" else _torch(model, options)
    for name, folder in adapters.items():
        engine.load_adapter(name, folder)
    return engine


def _torch(model: str, options: Mapping[str, Any]) -> Engine:
    from nescio.engines import torch_engine

    return torch_engine.load(model, **options)


def _vllm(model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> Engine:
    from nescio.engines.vllm import settings, vllm_engine

    own = locate(model)[1] if adapters else None  # which `load` makes room for only where no options say otherwise
    folders = [*([own] if own else []), *adapters.values()]
    lora = settings.lora_options(folders) if adapters else {}
    return vllm_engine.load(model, options={**lora, **options})
