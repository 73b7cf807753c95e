"""Paths in a YAML file as seen from its folder, whatever the working directory; for fields of a schema.

A file that is written back, as a run's resolved recipe is, means the same from anywhere. Knows Pydantic and paths; with
no folder to look from, values stay as they are.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

_NAMES = ("smollm2", "plain", "validation", "test")  # never paths, whatever lies beside the file


def _path(value: Path, info: ValidationInfo) -> Path:
    return Path(info.context).resolve() / value.expanduser() if info.context else value


def _named(value: str, info: ValidationInfo) -> str:
    if not info.context or not value or value in _NAMES:
        return value
    places = (folder.resolve() / value for folder in (Path(info.context), Path()))
    return next((str(place) for place in places if place.exists()), value)


def _asked(value: str, info: ValidationInfo) -> str:
    return value if info.data.get("engine") == "openai" else _named(value, info)


def _detector(value: str, info: ValidationInfo) -> str:
    parts = [part.strip().partition(":") for part in value.split(" + ")]
    return " + ".join(f"{kind}{colon}{_named(model, info)}" for kind, colon, model in parts)


FilePath = Annotated[Path, AfterValidator(_path)]
"""A path, relative to the file's folder."""

Named = Annotated[str, AfterValidator(_named)]
"""A file or folder that lies beside the YAML, or else in the working directory; or a name, which is left as it is."""

Asked = Annotated[str, AfterValidator(_asked)]
"""The same, but a name where the section's `engine` is an endpoint."""

DetectorName = Annotated[str, AfterValidator(_detector)]
"""The name of a detector, whose models may be folders."""
