"""Pydantic type of an engine's name, for recipes and options."""

from typing import Annotated

from pydantic import AfterValidator

from nescio.engines.registry import ENGINES


def _known(kind: str) -> str:
    if kind not in ENGINES:
        raise ValueError(f"engine {kind!r}: unknown; known here: {', '.join(ENGINES)}")
    return kind


EngineKind = Annotated[str, AfterValidator(_known)]
"""Name of an engine: `torch` (or `local`), `vllm`, `openai`, or one that another package brings."""
