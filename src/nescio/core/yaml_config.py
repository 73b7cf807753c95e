"""YAML under a Pydantic schema: each mistake is one line with the file, the line, the key and the mend.

Knows YAML and Pydantic; nothing of what a schema is for.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from nescio.core.errors import NescioError

Schema = TypeVar("Schema", bound=BaseModel)

_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # of a model, and of a dataclass


def read_yaml(path: Path, mend: str) -> tuple[dict[str, Any], str]:
    """Read a file that holds one mapping.

    Args:
        path: YAML.
        mend: What to do when it is missing or holds something else; ends the error's line.

    Returns:
        The mapping and the text, which `checked` finds line numbers in.

    Raises:
        NescioError: The file can't be read, is not YAML, says a key twice, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise NescioError(f"{path}: cannot be read ({reason}); {mend}") from error
    try:
        content = yaml.safe_load(text)
        twice = _said_twice(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise NescioError(
            f"{place}: not YAML ({getattr(error, 'problem', None) or 'unreadable'}); mend the line"
        ) from error
    if twice is not None:
        raise NescioError(f"{path}:{twice.start_mark.line + 1}: {twice.value}: said twice; keep one")
    if not isinstance(content, dict):
        raise NescioError(f"{path}: not a mapping of keys; {mend}")
    return content, text


def _said_twice(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """The first key that its mapping has already; YAML itself would let the last one win."""
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                return key
            seen.add(str(key.value))
            parts.append(value)
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    return next((found for part in parts if (found := _said_twice(part)) is not None), None)


def checked(
    schema: type[Schema], content: dict[str, Any], source: str, text: str, folder: Path | None = None
) -> Schema:
    """The content as its schema; a wrong value is quoted unless the schema hides its input.

    Args:
        schema: What it must be.
        content: The mapping.
        source: The file's name, for errors.
        text: The file's text, for line numbers.
        folder: Where paths that the schema marks as such are seen from.

    Raises:
        NescioError: The first mistake, a misspelt key before all others.
    """
    try:
        return schema.model_validate(content, context=folder)
    except ValidationError as error:
        # A misspelt key is often why another is missing, so it is told first.
        first = min(error.errors(), key=lambda each: each["type"] not in _UNKNOWN_KEY)
        names = [str(part) for part in first["loc"]]
        field = ".".join(names) or schema.__name__.lower()
        if first["type"] in _UNKNOWN_KEY:
            known = ", ".join(_fields_at(schema, names[:-1]))
            message = f"unknown key; known here: {known}"
        else:
            said = first["msg"].removeprefix("Value error, ")
            message = said[:1].lower() + said[1:]
            if not isinstance(first["input"], dict) and not schema.model_config.get("hide_input_in_errors"):
                message += f", is {first['input']!r}"
        raise NescioError(f"{source}{_line_of(names, text)}: {field}: {message}") from error


def _fields_at(schema: type[BaseModel], names: Sequence[str]) -> list[str]:
    """The keys of the section that these names lead to; a name of a mapping's own stands for any."""
    section: Any = schema
    for name in names:
        known = getattr(section, "model_fields", {})
        annotation = known[name].annotation if name in known else section
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(
            (o for o in options if is_dataclass(o) or (isinstance(o, type) and issubclass(o, BaseModel))), None
        )
        if section is None:
            return []
    return [field.name for field in fields(section)] if is_dataclass(section) else list(section.model_fields)


def _line_of(names: Sequence[str], text: str) -> str:
    """`:LINE` of a key in the YAML, or nothing where it is not in it."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = None
    for name in names:
        if isinstance(node, yaml.SequenceNode) and name.isdigit() and int(name) < len(node.value):
            node = node.value[int(name)]
            line = node.start_mark.line + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for key, value in pairs:
            if key.value == name:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return f":{line}" if line else ""
