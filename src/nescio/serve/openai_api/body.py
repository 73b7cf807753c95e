"""What all request bodies share: unknown fields are refused, and texts hold no control characters."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # half of a surrogate pair is no character


def no_control(text: str) -> str:
    """Return a text that has no control characters.

    Raises:
        ValueError: It has one.
    """
    if found := _CONTROL.search(text):
        raise ValueError(f"holds U+{ord(found[0]):04X}; remove control characters and halves of surrogate pairs")
    return text


Text = Annotated[str, AfterValidator(no_control)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
"""Name of a tool, or the id of a call."""


class Body(BaseModel):
    """A body, or an object in one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
