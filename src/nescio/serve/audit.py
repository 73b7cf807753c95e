"""The audits of a policy: what is done with each type of personal data in an answer, or in a request."""

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, PrivateAttr, model_serializer, model_validator

from nescio.core.text import folded
from nescio.pii.base import Span
from nescio.pii.taxonomy import TYPES
from nescio.serve.section import Section

Action = Literal["allow", "count", "replace", "mask", "block"]
"""What is done with a piece of personal data, the mildest first.

`allow` sends it and counts nothing, `count` sends and counts it, `replace` puts a stand-in in its place, `mask` puts
`[LABEL]` there, `block` ends the answer before it.
"""
ACTIONS: tuple[Action, ...] = get_args(Action)

AllowList = Annotated[tuple[str, ...], Field(max_length=10_000)]

_ANY = "any"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def _off_is_a_word(value: Any) -> Any:
    return "off" if value is False else value  # YAML reads a bare `off` as false


def _by_type(value: Any) -> Any:
    return value if isinstance(value, dict) else {_ANY: value} if value else {}


class Audit(Section):
    """What is done with personal data in answers, or in requests: one word for all types, or a mapping.

    Attributes:
        default: Action for every type that `types` does not name; `off` runs no detector.
        types: Action by type (`person`) or by the detector's own label (`US_SSN`), which comes before its type.
        allow: Texts that never count, in any case and Unicode form, such as the company's own telephone number: a list
            for all types, or lists by type or label, where `any` is for all.
    """

    default: Annotated[Literal["off"] | Action, BeforeValidator(_off_is_a_word)] = "mask"
    types: dict[str, Action] = Field(default_factory=dict)
    allow: Annotated[dict[str, AllowList], BeforeValidator(_by_type)] = Field(default_factory=dict)
    _allowed: dict[str, frozenset[str]] = PrivateAttr(default_factory=dict)
    _by_name: dict[str, Action] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _plain_word(cls, value: Any) -> Any:
        if isinstance(value, dict | Audit):
            return value
        word = _off_is_a_word(value)
        if word not in ("off", *ACTIONS):
            raise ValueError(f"must be off, {', '.join(ACTIONS)}, or a mapping with default, types and allow")
        return {"default": word}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.default == "off" and (self.types or self.allow):
            raise ValueError("default: off runs no detector, so types and allow do nothing; write default: allow")
        for name in (*self.types, *(self.allow.keys() - {_ANY})):
            check_type(name)
        self._allowed.update({name.upper(): frozenset(map(folded, texts)) for name, texts in self.allow.items()})
        self._by_name.update({name.upper(): action for name, action in self.types.items()})
        return self

    @model_serializer
    def _as_written(self) -> Any:
        if not self.types and not self.allow:
            return self.default
        allow = self.allow.get(_ANY, ()) if self.allow.keys() <= {_ANY} else self.allow
        return {
            "default": self.default,
            "types": self.types,
            "allow": allow if isinstance(allow, dict) else list(allow),
        }

    @property
    def off(self) -> bool:
        """Whether answers leave without a look."""
        return self.default in ("off", "allow") and not any(action != "allow" for action in self.types.values())

    @property
    def hides(self) -> bool:
        """Whether some personal data does not leave as it was written."""
        return any(action in ("replace", "mask", "block") for action in (self.default, *self.types.values()))

    def action(self, span: Span) -> Action:
        """Return what is done with a piece of personal data."""
        if self._allowed:
            text, names = folded(span.text), (_ANY.upper(), span.type.upper(), span.label.upper())
            if any(text in self._allowed.get(name, ()) for name in names):
                return "allow"
        default: Action = "allow" if self.default == "off" else self.default
        by_type = self._by_name.get(span.type.upper(), default)
        return self._by_name.get(span.label.upper(), by_type)


def check_type(name: str) -> None:
    """Check the name of a type: one of the taxonomy, in small letters, or a detector's label, in capitals.

    Raises:
        ValueError: It is neither.
    """
    if not _NAME.fullmatch(name) or (name != name.upper() and name not in TYPES):
        raise ValueError(f"types: {name} is not a type of personal data; the types are {', '.join(TYPES)}")
