"""nescio: make a chat model that learned personal data stop saying it, and serve it with classifier-free guidance.

Names are imported when they are first used, so that `import nescio` stays quick.
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
    from nescio.pii.base import Detector, Span
    from nescio.pii.registry import load_detector
    from nescio.pipeline.api import evaluate, fit
    from nescio.plugins import (
        register_attack,
        register_detector,
        register_engine,
        register_format,
        register_loss,
        register_measure,
        register_space,
    )

__version__ = "0.1.0"
__all__ = [
    "Detector", "Engine", "Guidance", "NescioError", "Request", "Span", "chat", "evaluate", "fit", "guide", "load",
    "load_detector", "register_attack", "register_detector", "register_engine", "register_format", "register_loss",
    "register_measure", "register_space",
]  # fmt: skip

_MODULES = {
    "nescio.core.errors": ("NescioError",),
    "nescio.core.guidance": ("Guidance",),
    "nescio.core.guide": ("guide",),
    "nescio.engines.base": ("Engine", "Request"),
    "nescio.engines.registry": ("chat",),
    "nescio.engines.torch_engine": ("load",),
    "nescio.pii.base": ("Detector", "Span"),
    "nescio.pii.registry": ("load_detector",),
    "nescio.pipeline.api": ("evaluate", "fit"),
    "nescio.plugins": tuple(name for name in __all__ if name.startswith("register_")),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'nescio' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)
