"""Opening the engine that a server asks, and telling what can be named on it. Knows engines and models; no HTTP."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast, get_args

from nescio.engines.base import Engine
from nescio.errors import NescioError
from nescio.models import read_sentences
from nescio.serve.admission import Served

EngineKind = Literal["torch"]


def engine_kind(name: str) -> EngineKind:
    """The kind of engine that has this name.

    Raises:
        NescioError: None has.
    """
    for kind in get_args(EngineKind):
        if name == kind:
            return cast(EngineKind, kind)
    raise NescioError(f"--engine {name}: unknown; there is {', '.join(get_args(EngineKind))}")


def open_engine(kind: EngineKind, model: str, adapters: Mapping[str, Path], rows: int) -> Engine:
    """Load a model and its adapters as an engine of this kind.

    Args:
        kind: Which engine.
        model: As for `nescio.load`.
        adapters: Folder of each adapter by the name that callers use.
        rows: Rows of the batch; a guided answer takes two.

    Raises:
        NescioError: Something is missing, damaged, or does not fit.
    """
    from nescio.engines import torch

    engine: Engine = torch.load(model, max_rows=rows)
    for name, folder in adapters.items():
        engine.load_adapter(name, folder)
    return engine


def adapter_names(model: str, adapters: Mapping[str, Path]) -> dict[str, Path]:
    """The folder of each adapter that will be served; a model that is itself an adapter's folder has it as `default`.

    Raises:
        NescioError: An adapter has the model's own name.
    """
    if model_name(model) in adapters:
        raise NescioError(f"--adapter {model_name(model)}: is the model's own name; choose another")
    path = Path(model).expanduser()
    own = {"default": path} if (path / "adapter_config.json").is_file() else {}
    if own.keys() & adapters.keys():
        raise NescioError("--adapter default: is the name of the model's own adapter; choose another")
    return {**own, **adapters}


def model_name(model: str) -> str:
    """What callers call a model: the name of its folder or file, or its hub id."""
    path = Path(model).expanduser()
    return path.resolve().name if path.exists() else model


def served_by(engine: Engine, model: str, adapters: Mapping[str, Path]) -> Served:
    """What callers may name; `adapters` are all that are served."""
    sentences = {name: read_sentences(folder) for name, folder in adapters.items()}
    return Served(model_name(model), sentences, engine.capabilities.control_tokens, int(time.time()))
