"""Dialog formats, one file each: how a row is recognised, and how it becomes a row of nescio's own format.

A row's own shape tells its format, so a folder may hold several.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nescio.core.registry import Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A dialog format.

    Attributes:
        recognises: Whether a row, a JSON object, is of this format.
        read: From a row to `{"messages": [{"role", "content"}], "id"?, "pii"?}`; `id` and `pii` of the row are taken
            over where the result has none. What is wrong with it is found afterwards, for every format alike.
        turns: Field of the row that holds the turns, for errors.
        has_slot_file: Whether values stand in a second file; `read` then finds them in the row, as `slot_values`.
    """

    recognises: Callable[[dict[str, Any]], bool]
    read: Callable[[dict[str, Any]], dict[str, Any]]
    turns: str = "messages"
    has_slot_file: bool = False


FORMATS: Registry[Format] = Registry("nescio.formats", "dialog format", "nescio.data.formats")
