"""The model under attack: on this machine, with or without an adapter, or behind an endpoint."""

from dataclasses import dataclass
from typing import Any

from nescio.core.adapters import adapter_base, is_adapter
from nescio.core.errors import NescioError
from nescio.core.files import expanded
from nescio.core.models import load_tokenizer
from nescio.engines.base import Engine
from nescio.engines.registry import is_endpoint
from nescio.evaluation.one_engine import OneEngine
from nescio.evaluation.setups import Setup

_NAME = "audited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A model, and how it is asked.

    Attributes:
        engine: Answers.
        setup: The model, its adapter and its sentences.
        identity: Plain data that decides its answers: the hashes of its weights, or name and address.
        tokenizer: The model's tokenizer; None at an endpoint.
        is_endpoint: Whether it is asked over the network.
    """

    engine: Engine
    setup: Setup
    identity: Any
    tokenizer: Any | None = None
    is_endpoint: bool = False


def setup_of(model: str, system: str | None = None) -> Setup:
    """Return how a model is asked; an adapter's folder is its base with the adapter attached.

    Args:
        model: A folder, a hub id, or another name that `nescio.load` takes.
        system: Sentence of the system message that its service sends with every conversation.
    """
    folder = expanded(model)
    if is_adapter(folder):
        return Setup(_NAME, _NAME, adapter_base(folder), adapter=str(folder), system=system)
    return Setup(_NAME, _NAME, model, system=system)


def open_local(setup: Setup, kind: str = "torch") -> Victim:
    """Open a model of this machine.

    Args:
        setup: As `setup_of` returns it.
        kind: Which engine.

    Raises:
        NescioError: The engine is unknown or an endpoint's, or the model cannot be loaded.
    """
    if is_endpoint(kind):
        raise NescioError(f"--engine {kind}: asks over the network; give its address as --base-url")
    tokenizer, engine = load_tokenizer(setup.model), OneEngine(kind)
    identity = [engine.identity, engine.identity_of(setup), *_of_system(setup.system)]
    return Victim(engine=engine.of([setup]), setup=setup, identity=identity, tokenizer=tokenizer)


def open_endpoint(model: str, base_url: str, key_env: str | None, system: str | None = None) -> Victim:
    """Open a model behind an OpenAI-compatible API.

    Args:
        model: Its name there.
        base_url: Address of the API, up to `/v1`.
        key_env: Environment variable that holds the key; None for a server without keys.
        system: Sentence of the system message that is sent with every conversation.

    Raises:
        NescioError: The address holds a password, or the key is not set.
    """
    if "@" in base_url:
        raise NescioError("--base-url: must hold no password; keys come from the environment (--key-env)")
    engine = OneEngine("openai", {"base_url": base_url, "key_env": key_env})
    setup, identity = Setup(_NAME, _NAME, model, system=system), [base_url, model, *_of_system(system)]
    return Victim(engine=engine.of([setup]), setup=setup, identity=identity, is_endpoint=True)


def _of_system(system: str | None) -> list[str]:
    """Return what a sentence adds to an identity: nothing without one, so that earlier answers are found."""
    return [] if system is None else [system]
