"""Different conversations among dialogs: a copy has the same turns under another id, as from overlapping exports."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

from nescio.core.prompts import Message
from nescio.core.text import fold
from nescio.data.dialogs import Dialog


class Conversations:
    """Numbers conversations as they come; only a digest of each stays in memory."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, messages: Sequence[Message]) -> bool:
        return _digest(messages) in self._numbers

    def number(self, messages: Sequence[Message]) -> int:
        """Return the number of a conversation, which its copies share."""
        return self._numbers.setdefault(_digest(messages), len(self._numbers))

    def new(self, dialogs: Iterable[Dialog]) -> Iterator[Dialog]:
        """Yield the dialogs that are no copy of an earlier one."""
        for dialog in dialogs:
            before = len(self)
            if self.number(dialog.messages) == before:
                yield dialog


def _digest(messages: Sequence[Message]) -> bytes:
    """Return what copies share: their turns in any case, Unicode form and spacing. System messages may differ."""
    turns = [m for m in messages if m["role"] != "system"]
    said = json.dumps([[m["role"], fold(m["content"])[0].strip().casefold()] for m in turns])
    return hashlib.blake2b(said.encode(), digest_size=16).digest()
