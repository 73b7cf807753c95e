"""Dialogs: what one is, how it is checked, and which are held out."""

import math
import random
from dataclasses import dataclass
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.prompts import Message
from nescio.core.text import fold, occurrences, said_places
from nescio.data.rows import check_whole

_FIX = "correct what wrote the file, or leave the dialog out"
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Dialog:
    """A conversation of turns that alternate, user first; a system message may stand before them.

    Attributes:
        id: Unique in its file.
        messages: The turns.
        pii: Personal data by slot, as in LLM-PC; None if it is not recorded.
        untaught: Indexes of assistant turns of weight 0 (OpenAI's format): context only, never learned or unlearned.
    """

    id: str
    messages: list[Message]
    pii: dict[str, str] | None = None
    untaught: frozenset[int] = frozenset()

    @property
    def answers(self) -> list[int]:
        """Indexes of the assistant turns that are learned from."""
        return [i for i, m in enumerate(self.messages) if m["role"] == "assistant" and i not in self.untaught]

    @property
    def recorded_labels(self) -> dict[str, str]:
        """The label of each recorded value: its slot's name without the number; of two slots with it, the first's."""
        return {value: slot.rsplit("-", 1)[0] for slot, value in reversed((self.pii or {}).items())}

    def as_row(self) -> dict[str, Any]:
        """Return the line of a dialog file."""
        messages = [m | {"weight": 0} if i in self.untaught else m for i, m in enumerate(self.messages)]
        return {"id": self.id, "messages": messages} | ({} if self.pii is None else {"pii": self.pii})


@dataclass(frozen=True, slots=True)
class Fields:
    """A format's names of the list of turns, and of the role and the text in each."""

    turns: str = "messages"
    role: str = "role"
    text: str = "content"


def parse_dialog(row: Any, default_id: str, fields: Fields = Fields()) -> Dialog:
    """Check one dialog object.

    Args:
        row: `{"id"?, "messages": [{"role", "content"}], "pii"?}`, with roles system, user and assistant.
        default_id: For a row without one.
        fields: The names that errors use, where the row was made from another format.

    Raises:
        NescioError: The row is wrong; field and remedy are named, file and line are the caller's.
    """
    if not isinstance(row, dict):
        raise NescioError("not a JSON object; a dialog is {'id', 'messages', 'pii'?}")
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise NescioError(f"{fields.turns}: missing or empty; give a list of {{'{fields.role}', '{fields.text}'}}")
    _check_messages(messages, fields)
    pii = row.get("pii")
    _check_pii(pii, messages)
    identifier = _id(row.get("id"), default_id)
    turns = [Message(role=message["role"], content=message["content"]) for message in messages]
    untaught = frozenset(i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("weight") == 0)
    dialog = Dialog(identifier, turns, pii, untaught)
    if not dialog.answers:
        raise NescioError(f"{fields.turns}: every assistant turn has weight 0; there is nothing to learn from it")
    return dialog


def _id(value: Any, default: str) -> str:
    """Return an id as text; tables write missing ids as null, NaN or infinity, and whole numbers as floats."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float) or isinstance(value, bool) or value == "":
        raise NescioError("id: must be a text or a number")
    check_whole(str(value), "id", _FIX)
    return str(value)


def _check_messages(messages: list[Any], fields: Fields) -> None:
    for index, message in enumerate(messages):
        place = f"{fields.turns}[{index}]"
        if not isinstance(message, dict):
            raise NescioError(f"{place}: not an object; give {{'{fields.role}', '{fields.text}'}}")
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            raise NescioError(f"{place}.{fields.role}: {role!r} is unknown; use system, user or assistant")
        if not isinstance(content, str):
            raise NescioError(f"{place}.{fields.text}: must be a text, is {type(content).__name__}")
        check_whole(content, f"{place}.{fields.text}", _FIX)
        if message.get("weight", 1) not in (None, 0, 1):
            raise NescioError(f"{place}.weight: must be 0 or 1, is {message['weight']!r}")
        if not fold(content)[0].strip() and role != "system":
            raise NescioError(f"{place}.{fields.text}: is empty; write the turn or leave the dialog out")
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    for index, role in enumerate(turns):
        if role != ("user", "assistant")[index % 2]:
            place = f"{fields.turns}[{index + len(roles) - len(turns)}].{fields.role}"
            raise NescioError(f"{place}: {role}, but turns must alternate, user first; merge or reorder the turns")
    if "assistant" not in turns:
        raise NescioError(f"{fields.turns}: no assistant turn; there is nothing to learn or to unlearn from it")


def _check_pii(pii: Any, messages: list[Any]) -> None:
    if pii is None:
        return
    if not (isinstance(pii, dict) and all(isinstance(v, str) and v.strip() for v in pii.values())):
        raise NescioError("pii: must be an object of slot: non-empty text; leave it out where there is none")
    for slot, value in pii.items():
        check_whole(slot, "pii", _FIX)
        if any(said_places(message["content"], value) for message in messages):
            continue
        if not any(occurrences(message["content"], value, whole_words=False) for message in messages):
            raise NescioError(f"pii.{slot}: {value!r} occurs in no message; correct the value, or leave the slot out")
        # A name may stand in a longer word, as Ann in "Anns"; a part of a number is another number.
        if any(map(str.isdigit, value)):
            raise NescioError(f"pii.{slot}: {value!r} stands only in longer words; record these, or leave the slot out")


def held_out(count: int, test_share: float, seed: int) -> set[int]:
    """Draw the dialogs that are held out: the split is by dialog, before anything is generated (paper, section 2.2).

    Args:
        count: Number of dialogs.
        test_share: Share of them to hold out.
        seed: Seed of the draw.

    Raises:
        NescioError: One side would be empty.
    """
    test = round(count * test_share)
    if not 0 < test < count:
        raise NescioError(
            f"data: {count} different dialogs with test_share {test_share} leave one side empty; give more dialogs or "
            "another share"
        )
    return set(random.Random(seed).sample(range(count), test))
