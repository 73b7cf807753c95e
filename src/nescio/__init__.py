"""nescio: make a chat model that learned personal data stop saying it, and serve it with classifier-free guidance.

The names below are loaded when they are first used, so that `import nescio` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nescio.core.errors import NescioError
    from nescio.core.guidance import Guidance
    from nescio.core.guide import guide
    from nescio.engines.base import Engine, Request
    from nescio.engines.registry import chat
    from nescio.engines.torch_engine import load
    from nescio.pii.base import Span
    from nescio.pii.registry import load_detector

__version__ = "0.1.0"
__all__ = ["Engine", "Guidance", "NescioError", "Request", "Span", "chat", "guide", "load", "load_detector"]

_HOMES = {
    "Engine": "nescio.engines.base",
    "chat": "nescio.engines.registry",
    "Guidance": "nescio.core.guidance",
    "NescioError": "nescio.core.errors",
    "Request": "nescio.engines.base",
    "Span": "nescio.pii.base",
    "guide": "nescio.core.guide",
    "load": "nescio.engines.torch_engine",
    "load_detector": "nescio.pii.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nescio' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
