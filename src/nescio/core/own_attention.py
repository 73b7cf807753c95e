"""Attention functions of our own, in the place of the one that a model of Transformers was loaded with."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

_own = set[str]()


def register(name: str, attention: Callable[..., Any]) -> None:
    """Make an attention function known to Transformers, under a name; its masks are those of `sdpa`."""
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, sdpa_mask)  # else a model would have no window where no mask is given
    _own.add(name)


def is_own(name: str) -> bool:
    """Return whether an attention of this name was registered here; it takes what `sdpa` takes."""
    return name in _own


def replaceable(core: Any) -> bool:
    """Return whether a model of Transformers can compute with another attention in the place of `sdpa`, on a CPU."""
    # Models that do not look their attention up by name (Falcon) would take an unknown one for eager.
    by_name = hasattr(sys.modules[type(core).__module__], "ALL_ATTENTION_FUNCTIONS")
    return by_name and core.device.type == "cpu" and core.config._attn_implementation in {"sdpa", *_own}


@contextmanager
def attached(core: Any, name: str) -> Iterator[None]:
    """Let a `replaceable` model compute with the attention of a name inside the `with` block."""
    before = core.config._attn_implementation
    core.config._attn_implementation = name
    try:
        yield
    finally:
        core.config._attn_implementation = before
