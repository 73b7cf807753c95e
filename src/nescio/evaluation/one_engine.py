"""One loaded engine at a time, so that two models are never in memory together."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nescio.core.guidance import Guidance
from nescio.core.model_source import identity
from nescio.engines.base import Engine
from nescio.evaluation.setups import Setup

if TYPE_CHECKING:  # whoever prints a table imports the measures, and should not wait for PyTorch
    from nescio.engines.kind_field import EngineKind

_ALWAYS = ("scale", "space", "positive", "negative", "plausibility", "adaptive")


def _settings(guidance: Guidance) -> dict[str, Any]:
    """The settings of a guidance. Later ones only where they are not at their default: old answers are found."""
    return {
        setting.name: getattr(guidance, setting.name)
        for setting in fields(guidance)
        if setting.name in _ALWAYS or getattr(guidance, setting.name) != setting.default
    }


class OneEngine:
    """Opens engines, and closes the last one before it opens another.

    Args:
        kind: Engine that answers for the rows.
        options: Its options.
    """

    def __init__(self, kind: "EngineKind" = "torch", options: Mapping[str, Any] | None = None) -> None:
        self.kind, self.options = kind, options or {}
        self._weights = cache(identity)  # for one table: what a folder holds may change before the next
        self._key: Any = None
        self._engine: Engine | None = None

    @property
    def identity(self) -> list[Any]:
        """Plain data that decides answers together with the set-up: options may set the type of the weights."""
        return [self.kind, self.options]

    def identity_of(self, setup: Setup) -> list[Any]:
        """Return what decides a set-up's answers: content, not paths, so that a moved folder is not asked again."""
        guidance = None if setup.guidance is None else _settings(setup.guidance)
        how: dict[str, Any] = {"guidance": guidance, "system": setup.system, "nudge": setup.nudge}
        how |= {"engine": [setup.engine, setup.options]} if setup.engine else {}
        return [self._weights(setup.model), setup.adapter and self._weights(setup.adapter), how]

    def of(self, setups: Sequence[Setup]) -> Engine:
        """Return the engine of the set-ups' one model, with all adapters that they attach."""
        adapters = {setup.attached: Path(setup.adapter) for setup in setups if setup.attached and setup.adapter}
        first = setups[0]
        kind, options = (first.engine, first.options) if first.engine else (self.kind, self.options)
        return self._open(kind, first.model, adapters, options)

    def plain(self, model: str, kind: "EngineKind" = "torch", options: Mapping[str, Any] | None = None) -> Engine:
        """Return an engine of a model that is no row of the table: the base model or a judge."""
        return self._open(kind, model, {}, options or {})

    def tokenizer(self, model: str) -> Any:
        """Return the tokenizer of a model."""
        from nescio.core.models import load_tokenizer

        return load_tokenizer(model)

    def _open(self, kind: "EngineKind", model: str, adapters: dict[str, Path], options: Mapping[str, Any]) -> Engine:
        from nescio.engines.registry import open_engine

        key = (kind, model, adapters, options)
        if self._engine is None or self._key != key:
            self.close()
            self._engine, self._key = open_engine(kind, model, adapters, options), key
        return self._engine

    def close(self) -> None:
        """Close the engine that is open, if any, and free its memory."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
            from nescio.core.models import release

            release()
