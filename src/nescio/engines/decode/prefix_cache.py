"""The cache of computed prompts, by token ids; the least recently used are dropped first."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nescio.engines.decode.kv_slots import KeysValues

Key = tuple[int | None, tuple[int, ...]]
"""The adapter of a prompt, and its token ids."""

_MOST_ENTRIES = 64  # each also holds the logits after its prompt, which may be larger than the keys of a short one


@dataclass(frozen=True, slots=True)
class Found:
    """The longest cached prefix of a prompt.

    Attributes:
        tokens: Length of the prefix.
        kv: Keys and values of at least that many tokens.
        logits: Logits `[vocab]` after the prompt, if all of it is cached.
    """

    tokens: int
    kv: KeysValues
    logits: Tensor | None


class PrefixCache:
    """Caches the keys and values of prompts.

    Args:
        most: Size in tokens, of 64 prompts at most; 0 caches nothing.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._entries: OrderedDict[Key, tuple[KeysValues, Tensor]] = OrderedDict()

    def accepts(self, tokens: int) -> bool:
        """Return whether a prompt of this length can be cached."""
        return tokens <= self._most

    def add(self, adapter: int | None, ids: tuple[int, ...], kv: KeysValues, logits: Tensor) -> None:
        """Cache a prompt computed with an adapter, and the logits after it."""
        if (adapter, ids) in self._entries:
            return
        self._entries[adapter, ids] = (kv, logits)
        self._held += len(ids)
        while self._held > self._most or len(self._entries) > _MOST_ENTRIES:
            (_, dropped), _ = self._entries.popitem(last=False)
            self._held -= len(dropped)

    def find(self, adapter: int | None, ids: tuple[int, ...]) -> Found | None:
        """Return the longest prefix of a prompt that is cached for the same adapter."""
        best, longest = None, 0
        for key in self._entries:
            shared = common(key[1], ids) if key[0] == adapter else 0
            if shared > longest or (shared == longest and key[1] == ids):
                best, longest = key, shared
        if best is None:
            return None
        self._entries.move_to_end(best)
        kv, logits = self._entries[best]
        if best[1] == ids:
            return Found(longest, kv, logits)
        # The last token of a prompt is always computed, because its logits are needed.
        longest = min(longest, len(ids) - 1)
        return Found(longest, kv, None) if longest else None

    def clear(self) -> None:
        """Drop everything, after the weights have changed."""
        self._entries.clear()
        self._held = 0


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two sequences share at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
