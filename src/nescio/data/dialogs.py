"""Dialogs: reading, checking and splitting them. Knows nothing of models or personal data.

A line of the file is `{"id", "messages": [{"role", "content"}], "pii": {slot: value}?}`.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nescio.errors import NescioError
from nescio.files import read_jsonl
from nescio.prompts import Message

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Dialog:
    """A conversation of turns that alternate, user first, a system message before them at most.

    Attributes:
        id: Unique in its file.
        messages: The turns.
        pii: Personal data by slot, as in LLM-PC; None where nobody recorded it.
    """

    id: str
    messages: list[Message]
    pii: dict[str, str] | None = None

    def as_row(self) -> dict[str, Any]:
        """The line of a dialog file."""
        return {"id": self.id, "messages": self.messages} | ({} if self.pii is None else {"pii": self.pii})


def read_dialogs(path: Path) -> Iterator[Dialog]:
    """Read and check a dialog file.

    Raises:
        NescioError: A line is wrong: file, line, field and mend are named.
    """
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        try:
            dialog = parse_dialog(row, default_id=f"{path.stem}-{number}")
        except NescioError as error:
            raise NescioError(f"{path}:{number}: {error}") from error
        if dialog.id in seen:
            raise NescioError(
                f"{path}:{number}: id {dialog.id!r} stands at line {seen[dialog.id]} already; make it unique"
            )
        seen[dialog.id] = number
        yield dialog


def parse_dialog(row: Any, default_id: str) -> Dialog:
    """Check one dialog object.

    Raises:
        NescioError: The field and the mend, without the place.
    """
    if not isinstance(row, dict):
        raise NescioError("not a JSON object; a dialog is {'id', 'messages', 'pii'?}")
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise NescioError("messages: missing or empty; give a list of {'role', 'content'}")
    _check_messages(messages)
    pii = row.get("pii")
    if pii is not None and not (isinstance(pii, dict) and all(isinstance(v, str) and v.strip() for v in pii.values())):
        raise NescioError("pii: must be an object of slot: non-empty text; leave it out where there is none")
    identifier = row.get("id", default_id)
    if not isinstance(identifier, str | int) or identifier == "":
        raise NescioError("id: must be a text or a number")
    turns = [Message(role=message["role"], content=message["content"]) for message in messages]
    return Dialog(str(identifier), turns, pii)


def _check_messages(messages: list[Any]) -> None:
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if not isinstance(message, dict):
            raise NescioError(f"{place}: not an object; give {{'role', 'content'}}")
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            raise NescioError(f"{place}.role: {role!r} is unknown; use system, user or assistant")
        if not isinstance(content, str):
            raise NescioError(f"{place}.content: must be a text, is {type(content).__name__}")
        if not content.strip() and role != "system":
            raise NescioError(f"{place}.content: is empty; write the turn or leave the dialog out")
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    for index, role in enumerate(turns):
        if role != ("user", "assistant")[index % 2]:
            place = f"messages[{index + len(roles) - len(turns)}].role"
            raise NescioError(f"{place}: {role}, but turns must alternate, user first; merge or reorder the turns")
    if "assistant" not in turns:
        raise NescioError("messages: no assistant turn; there is nothing to learn or to unlearn from it")


def split_dialogs(dialogs: Sequence[Dialog], test_share: float, seed: int) -> tuple[list[Dialog], list[Dialog]]:
    """Split by dialog, before anything is generated, so that no dialog is on both sides (paper, section 2.2).

    Returns:
        Train and test, each in the file's order.

    Raises:
        NescioError: One side would be empty.
    """
    count = round(len(dialogs) * test_share)
    if not 0 < count < len(dialogs):
        raise NescioError(
            f"data: {len(dialogs)} dialogs with test_share {test_share} leave one side empty; give more dialogs or "
            "another share"
        )
    test = set(random.Random(seed).sample(range(len(dialogs)), count))
    return (
        [dialog for index, dialog in enumerate(dialogs) if index not in test],
        [dialog for index, dialog in enumerate(dialogs) if index in test],
    )
