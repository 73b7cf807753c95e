"""`nescio init`: a recipe to start from."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from nescio.core.errors import NescioError
from nescio.core.files import write_text


def init(path: Annotated[Path, typer.Argument(help="File to write.")] = Path("recipe.yaml")) -> None:
    """Write a commented recipe to start from."""
    if path.exists():
        raise NescioError(f"{path}: exists already; name another file")
    write_text(path, (files("nescio") / "recipes/template.yaml").read_text(encoding="utf-8"))
    print(f"Wrote {path}. Fill in base, tuned and data.dialogs, then run: nescio run {path}")
