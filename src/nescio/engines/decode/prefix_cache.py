"""Prompts that were computed before, by token ids, least recently used out first. Knows keys and values only."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nescio.engines.decode.kv_slots import Kept

_Key = tuple[int | None, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Found:
    """The longest known beginning of a prompt.

    Attributes:
        tokens: How long it is.
        kept: Keys and values of at least that many tokens.
        logits: `[vocab]`, of the token that follows; only where the whole prompt is known.
    """

    tokens: int
    kept: Kept
    logits: Tensor | None


class Prefixes:
    """Keeps the keys and values of up to `most` tokens of prompts.

    Args:
        most: Most tokens kept; 0 keeps none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._entries: OrderedDict[_Key, tuple[Kept, Tensor]] = OrderedDict()

    def wanted(self, tokens: int) -> bool:
        """Whether a prompt of this length would be kept at all."""
        return tokens <= self._most

    def keep(self, adapter: int | None, ids: tuple[int, ...], kept: Kept, logits: Tensor) -> None:
        """Keep a prompt, computed under an adapter, and the logits after it."""
        if (adapter, ids) in self._entries:
            return
        self._entries[adapter, ids] = (kept, logits)
        self._held += len(ids)
        while self._held > self._most:
            (_, dropped), _ = self._entries.popitem(last=False)
            self._held -= len(dropped)

    def find(self, adapter: int | None, ids: tuple[int, ...]) -> Found | None:
        """The longest beginning of a prompt that is known under the same adapter."""
        best, longest = None, 0
        for key in self._entries:
            shared = common(key[1], ids) if key[0] == adapter else 0
            if shared > longest or (shared == longest and key[1] == ids):
                best, longest = key, shared
        if best is None:
            return None
        self._entries.move_to_end(best)
        kept, logits = self._entries[best]
        if best[1] == ids:
            return Found(longest, kept, logits)
        # The last token of a prompt is always computed: its logits are wanted.
        longest = min(longest, len(ids) - 1)
        return Found(longest, kept, None) if longest else None

    def clear(self) -> None:
        """Forget all; after a change of the weights."""
        self._entries.clear()
        self._held = 0


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
