"""Engines by kind: those of this package and those that other packages bring."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.prompts import Message
from nescio.core.registry import Registry
from nescio.engines.base import Engine

EngineOpener = Callable[[str, Mapping[str, Path], Mapping[str, Any]], Engine]
"""Opens an engine: `(model, adapters, options) -> Engine`.

`model` is as for `nescio.load`. `adapters` maps names to the PEFT folders that `open_engine` loads afterwards, given
for engines that have to reserve memory for them. `options` are the engine's own.
"""

Opener = TypeVar("Opener")

ENGINES: Registry[EngineOpener] = Registry("nescio.engines", "engine", "nescio.engines")


def endpoint(opener: Opener) -> Opener:
    """Mark what opens an engine as one that asks over the network; a class may say `is_endpoint = True` itself."""
    setattr(opener, "is_endpoint", True)  # noqa: B010 - not every opener declares the attribute
    return opener


def is_endpoint(kind: str) -> bool:
    """Return whether an engine asks over the network: no model is loaded here, and answers may cost money.

    Raises:
        NescioError: There is no engine of this name.
    """
    return bool(getattr(ENGINES.get(kind), "is_endpoint", False))


def open_engine(kind: str, model: str, adapters: Mapping[str, Path], options: Mapping[str, Any]) -> Engine:
    """Open an engine and load its adapters.

    Args:
        kind: Which engine.
        model: As for `nescio.load`; for an endpoint, the name of the model there.
        adapters: PEFT folder of each adapter by its name.
        options: The engine's own: arguments of the torch engine's `load`, of `OpenAIEngine`, or of vLLM's `EngineArgs`.

    Raises:
        NescioError: The kind or an option is unknown, or something is missing, damaged, or does not fit.
    """
    engine = ENGINES.get(kind)(model, adapters, options)
    try:
        for name, folder in adapters.items():
            engine.load_adapter(name, folder)
    except BaseException:
        engine.close()
        raise
    return engine


def check_options(kind: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check options against the parameters of the function that takes them.

    Raises:
        NescioError: A name is unknown or a value is of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError  # needed by no engine that is made in Python

    hints, given = get_type_hints(function), ("model", "adapter", "adapters", "return")
    types = {name: t for name, t in hints.items() if name not in given}
    for name, value in options.items():
        if name not in types:
            raise NescioError(f"engine {kind}: option {name!r} is unknown; known: {', '.join(types)}")
        try:
            TypeAdapter(types[name]).validate_python(value, strict=True)
        except ValidationError as error:
            raise NescioError(f"engine {kind}: option {name}: {error.errors()[0]['msg']}; got {value!r}") from error


def chat(engine: Engine | str | Path, messages: list[Message], guidance: Guidance | None = None, **options: Any) -> str:
    """Answer a conversation.

    Args:
        engine: An open engine, or a model as for `nescio.load`, which is loaded for this one answer.
        messages: The conversation.
        guidance: How to guide the answer.
        options: Fields of `Request`, such as `max_tokens`.

    Raises:
        NescioError: The model can't be loaded, or the request can't be served.
    """
    if isinstance(engine, str | Path):
        with open_engine("torch", str(engine), {}, {}) as own:
            return own.chat(messages, guidance, **options)
    return engine.chat(messages, guidance, **options)
