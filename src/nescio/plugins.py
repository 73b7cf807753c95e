"""The registries of everything that another package can bring, and the decorators that register it here."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from nescio.core.registry import Listing, Registry

Registered = TypeVar("Registered")

_REGISTRIES = {
    "detector": "nescio.pii.registry:DETECTORS",
    "loss": "nescio.training.losses.registry:LOSSES",
    "format": "nescio.data.formats:FORMATS",
    "engine": "nescio.engines.registry:ENGINES",
    "measure": "nescio.evaluation.columns:measures",
    "attack": "nescio.audit.base:ATTACKS",
    "space": "nescio.core.spaces:SPACES",
    "benchmark": "nescio.data.benchmarks:BENCHMARKS",
    "tool_format": "nescio.serve.tool_formats:TOOL_FORMATS",
}


def registry(kind: str) -> Registry[Any]:
    """Return the registry of detectors, losses, formats, engines, and so on, by the singular of the word."""
    module, _, name = _REGISTRIES[kind].partition(":")
    found: Registry[Any] = getattr(import_module(module), name)
    return found


def listings() -> list[Listing]:
    """Return every registered name with its group and the package that brings it; plugins are not imported."""
    return [listing for kind in _REGISTRIES for listing in registry(kind).listings()]


def register_detector(name: str) -> Callable[[Registered], Registered]:
    """Return a decorator that registers a class or function `(model, ignore) -> Detector` for `detector.model`."""
    return registry("detector").register(name)


def register_loss(name: str) -> Callable[[Registered], Registered]:
    """Return a decorator that registers a method for `train.method`."""
    return registry("loss").register(name)


def register_format(name: str) -> Callable[[Registered], Registered]:
    """Return a decorator that registers a dialog format, a `nescio.data.formats.Format`."""
    return registry("format").register(name)


def register_engine(name: str) -> Callable[[Registered], Registered]:
    """Return a decorator that registers a function `(model, adapters, options) -> Engine` for `engine.kind`.

    A function or class with `is_endpoint = True` asks over the network.
    """
    return registry("engine").register(name)


def register_measure(name: str) -> Callable[[Registered], Registered]:
    """Return a decorator that registers a subclass of `nescio.evaluation.base.Measure` for `evaluate.measures`."""
    return registry("measure").register(name)


def register_attack(name: str) -> Callable[[Registered], Registered]:
    """Return a decorator that registers a subclass of `nescio.audit.base.Attack` for `nescio audit`."""
    return registry("attack").register(name)


def register_space(name: str) -> Callable[[Registered], Registered]:
    """Return a decorator that registers a function `(positive, negative, gamma) -> log-probabilities`."""
    return registry("space").register(name)
