"""Opening the engine that a server asks, and telling what can be named on it. Knows engines and models; no HTTP."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import yaml

from nescio.core.adapters import is_adapter, read_sentences
from nescio.core.errors import NescioError
from nescio.engines.base import Engine, Precision
from nescio.engines.registry import ENGINES, EngineKind, open_engine
from nescio.serve.admission import Served


def engine_kind(name: str) -> EngineKind:
    """The kind of engine that has this name.

    Raises:
        NescioError: None has.
    """
    return _one_of(ENGINES.names(), name, "--engine")


def precision(name: str) -> Precision:
    """The torch engine's precision that has this name.

    Raises:
        NescioError: None has.
    """
    return cast(Precision, _one_of(get_args(Precision), name, "--precision"))


def _one_of(names: Sequence[str], name: str, option: str) -> str:
    if name not in names:
        raise NescioError(f"{option} {name}: unknown; there is {', '.join(names)}")
    return name


def open_served(
    kind: EngineKind,
    model: str,
    adapters: Mapping[str, Path],
    rows: int,
    cache_tokens: int,
    weights: Precision,
    options: Mapping[str, Any],
) -> Engine:
    """Open the engine that a server asks.

    Args:
        kind: Which engine.
        model: As for `nescio.load`.
        adapters: Folder of each adapter by the name that callers use.
        rows: Rows of the batch; a guided answer takes two.
        cache_tokens: Most tokens in the torch engine's cache; vLLM has its own options for that.
        weights: Of the torch engine, as for `nescio.load`.
        options: Of vLLM's `EngineArgs`; none for another engine.

    Raises:
        NescioError: Something is missing, damaged, or does not fit.
    """
    if options and kind != "vllm":
        raise NescioError(f"--vllm {next(iter(options))}: only with --engine vllm")
    if weights != "full" and kind != "torch":
        raise NescioError(f"--precision {weights}: only with --engine torch; vLLM has --vllm dtype=…")
    if kind == "vllm":
        return open_engine(kind, model, adapters, {"max_num_seqs": rows, **options})
    if kind not in ("torch", "local"):
        return open_engine(kind, model, adapters, options)
    own = {"max_rows": rows, "precision": weights, "cache_tokens": cache_tokens}
    return open_engine(kind, model, adapters, own)


def engine_options(given: Sequence[str]) -> dict[str, Any]:
    """Read `NAME=VALUE` options of vLLM; a value is YAML.

    Raises:
        NescioError: One can't be read.
    """
    options = {}
    for each in given:
        name, equals, value = each.partition("=")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise NescioError(f"--vllm {each}: the value is no YAML") from error
        if not (name and equals and value):
            raise NescioError(f"--vllm {each}: must read NAME=VALUE")
    return options


def adapter_names(model: str, adapters: Mapping[str, Path]) -> dict[str, Path]:
    """The folder of each adapter that will be served; a model that is itself an adapter's folder has it as `default`.

    Raises:
        NescioError: An adapter has the model's own name.
    """
    if model_name(model) in adapters:
        raise NescioError(f"--adapter {model_name(model)}: is the model's own name; choose another")
    path = Path(model).expanduser()
    own = {"default": path} if is_adapter(path) else {}
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
