"""YAML files under a Pydantic schema, path types that are relative to the file, and errors that name line and key."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ValidationError, ValidationInfo

from nescio.core.errors import NescioError
from nescio.core.files import expanded

Schema = TypeVar("Schema", bound=BaseModel)

_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # of a model, and of a dataclass


_MOST_BITS = 512  # of a whole number; sums and products of larger ones may have too many digits to be written
_RESERVED = ("smollm2", "plain", "validation", "test")  # names that are never paths, even where such a file exists


def _relative_path(value: Path, info: ValidationInfo) -> Path:
    try:
        return Path(info.context).resolve() / expanded(value) if info.context else value
    except NescioError as error:  # Pydantic adds file, line and field to a ValueError
        raise ValueError(str(error)) from error


def path_or_name(value: str, info: ValidationInfo) -> str:
    """Return the absolute path of what exists in the YAML file's folder or the working directory, else the name."""
    if not info.context or not value or value in _RESERVED:
        return value
    places = (folder.resolve() / value for folder in (Path(info.context), Path()))
    return next((str(place) for place in places if place.exists()), value)


def _detector_name(value: str, info: ValidationInfo) -> str:
    parts = [part.strip().partition(":") for part in value.split(" + ")]
    return " + ".join(f"{kind}{colon}{path_or_name(model, info)}" for kind, colon, model in parts)


FilePath = Annotated[Path, AfterValidator(_relative_path)]
"""A path, relative to the YAML file's folder."""

PathOrName = Annotated[str, AfterValidator(path_or_name)]
"""A file or folder in the YAML file's folder, or else in the working directory; or a name, which is left as it is."""

DetectorName = Annotated[str, AfterValidator(_detector_name)]
"""The name of a detector, whose models may be folders."""


def read_yaml(path: Path, fix: str) -> tuple[dict[str, Any], str]:
    """Read a file that holds one mapping.

    Args:
        path: YAML.
        fix: What to do when the file is missing or holds something else; ends the error's line.

    Returns:
        The mapping and the text, which `checked` finds line numbers in.

    Raises:
        NescioError: The file can't be read, is not YAML, gives a key twice, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise NescioError(f"{path}: cannot be read ({reason}); {fix}") from error
    return mapping_of(text, str(path), fix), text


def mapping_of(text: str, source: str, fix: str) -> dict[str, Any]:
    """Return the one mapping that a YAML text holds; the arguments are those of `read_yaml` and `checked`.

    Raises:
        NescioError: As for `read_yaml`.
    """
    try:
        content = yaml_value(text)
        repeated = _repeated_key(yaml.compose(text, Loader=yaml.SafeLoader))
    except RecursionError as error:
        raise NescioError(f"{source}: a value contains itself, or is nested too deep; write it out") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark else source
        raise NescioError(
            f"{place}: not YAML ({getattr(error, 'problem', None) or 'unreadable'}); correct the line"
        ) from error
    if repeated is not None:
        raise NescioError(f"{source}:{repeated.start_mark.line + 1}: {repeated.value}: given twice; keep one")
    if not isinstance(content, dict):
        raise NescioError(f"{source}: not a mapping of keys; {fix}")
    return content


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, whose errors of a value that looks like another kind (`2001-99-99`) name the line too."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise ValueError("too large")
            if isinstance(value, str):
                value.encode()  # half a surrogate pair (`"\\ud800"`) could be sent nowhere
        except (ValueError, LookupError, AttributeError) as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"a value reads as {kind}, but is none"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
        if isinstance(value, str) and "\0" in value:  # which no path may hold
            raise yaml.constructor.ConstructorError(None, None, "a text holds a null character", node.start_mark)
        return value


def yaml_value(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError: It is no YAML, or a value in it reads as another kind than it is.
    """
    return yaml.load(text, Loader=_Loader)


def _repeated_key(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """Return the first key that its mapping has already; YAML itself would let the last one win."""
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
    return next((found for part in parts if (found := _repeated_key(part)) is not None), None)


def checked(
    schema: type[Schema],
    content: Mapping[str, Any],
    source: str,
    text: str,
    folder: Path | None = None,
    written: Mapping[tuple[str, ...], tuple[str, ...]] | None = None,
    elsewhere: dict[tuple[str, ...], str] | None = None,
) -> Schema:
    """Validate a mapping; an error quotes a wrong value unless the schema hides its input.

    Args:
        schema: What it must be.
        content: The mapping.
        source: The file's name, for errors.
        text: The file's text, for line numbers.
        folder: The folder that paths are relative to.
        written: The place of a value in the text, by its place in the mapping, where the two differ.
        elsewhere: What gave a value that is not the text's, as `--set a.b=1`, by its place in the mapping; a later one
            replaces those before it.

    Raises:
        NescioError: The first mistake, a misspelt key before all others.
    """
    try:
        valid = schema.model_validate(content, context=folder)
    except ValidationError as error:
        # A misspelt key is often why another is missing, so it is reported first.
        first = min(error.errors(), key=lambda each: each["type"] not in _UNKNOWN_KEY)
        place = tuple(str(part) for part in first["loc"])
        if first["type"] in _UNKNOWN_KEY:
            message = f"unknown key; known here: {', '.join(_fields_at(schema, place[:-1]))}"
        else:
            is_section = first["type"] in ("model_type", "model_attributes_type", "dataclass_type")
            said = (
                "must be a section with keys of its own" if is_section else first["msg"].removeprefix("Value error, ")
            )
            message = "missing; add it" if first["type"] == "missing" else said[:1].lower() + said[1:]
            value, is_hidden = first["input"], schema.model_config.get("hide_input_in_errors")
            is_named = isinstance(value, str) and repr(value) in message  # such as an unknown name
            if not (is_hidden or is_named or isinstance(value, dict)):
                message += f", is {value!r}"
        raise _at(place, message, schema, source, text, written, elsewhere) from error
    if switch := _switch_as_number(content, valid):  # Pydantic reads `yes` as 1
        raise _at(switch, "must be a number, is true or false", schema, source, text, written, elsewhere)
    return valid


def _at(
    place: tuple[str, ...], message: str, schema: type[BaseModel], source: str, text: str,
    written: Mapping[tuple[str, ...], tuple[str, ...]] | None, elsewhere: dict[tuple[str, ...], str] | None,
) -> NescioError:  # fmt: skip
    """Return the error of a value by its place in the mapping, under the name and at the line that the user wrote."""
    for given, option in reversed((elsewhere or {}).items()):
        if place[: len(given)] == given:
            inside = ".".join(place[len(given) :])
            return NescioError(f"{option}: {inside}{': ' if inside else ''}{message}")
    # The user wrote the old names of keys that were translated: errors use them too.
    for today, old in (written or {}).items():
        if place[: len(today)] == today:
            place = old + place[len(today) :]
        elif place == today[:-1]:
            message = re.sub(rf"\b{today[-1]}\b", old[-1], message)
    field = ".".join(place) or schema.__name__.lower()
    return NescioError(f"{source}{_line_of(place, text)}: {field}: {message}")


def _switch_as_number(given: Any, valid: Any, place: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """Return the place of the first true or false that was read as a number, None if there is none."""
    if isinstance(given, bool):
        return place if isinstance(valid, int | float) and not isinstance(valid, bool) else None
    inside: list[tuple[Any, Any, Any]] = []
    if isinstance(given, Mapping):
        read: Callable[[Any], Any] = (
            valid.get if isinstance(valid, Mapping) else lambda key: getattr(valid, str(key), None)
        )
        inside = [(key, value, read(key)) for key, value in given.items()]
    elif isinstance(given, list) and isinstance(valid, Sequence):
        inside = [(number, *pair) for number, pair in enumerate(zip(given, valid, strict=False))]
    found = (_switch_as_number(value, own, (*place, str(key))) for key, value, own in inside)
    return next((each for each in found if each is not None), None)


def _fields_at(schema: type[BaseModel], names: Sequence[str]) -> list[str]:
    """Return the keys of the section that these names lead to; any name leads into a mapping of sections."""
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
    """Return `:LINE` of the last of these keys that stands in the YAML, or nothing."""
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
