"""Different conversations among dialogs: a copy has the same turns under another id, as from overlapping exports."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

from nescio.core.prompts import Message
from nescio.core.text import fold
from nescio.data.dialogs import Dialog


class Conversations:
    """Numbers conversations as they come; only a digest of each stays in memory.

    Attributes:
        copies: How many came that are copies of an earlier one.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self.copies = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, messages: Sequence[Message]) -> bool:
        return _digest(messages) in self._numbers

    def number(self, messages: Sequence[Message]) -> int:
        """Return the number of a conversation, which its copies share."""
        new = len(self._numbers)
        number = self._numbers.setdefault(_digest(messages), new)
        self.copies += number < new
        return number

    def new(self, dialogs: Iterable[Dialog]) -> Iterator[Dialog]:
        """Yield the dialogs that are no copy of an earlier one."""
        for dialog in dialogs:
            new = len(self)
            if self.number(dialog.messages) == new:
                yield dialog


def _digest(messages: Sequence[Message]) -> bytes:
    """Return what copies share: their turns in any case, Unicode form and spacing. System messages may differ."""
    turns = [m for m in messages if m["role"] != "system"]
    said = json.dumps([[m["role"], fold(m["content"])[0].strip().casefold()] for m in turns])
    return hashlib.blake2b(said.encode(), digest_size=16).digest()
