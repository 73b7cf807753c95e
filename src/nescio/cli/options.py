"""Options that several commands share, and what they mean."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nescio.pii.base import Detector

READ = (
    "plain text, JSON lines of texts or of objects with a text field, or conversations in any format "
    "that `nescio data convert` reads."
)

DetectorOption = Annotated[
    str | None, typer.Option(help="Detector: default, paper, or such as spacy:MODEL or presidio + rampart.")
]
FieldOption = Annotated[str | None, typer.Option(help="Field that holds the text. Default: text, answer or content.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a key of the recipe: a.b=value. Repeatable.")
]


def names_of(text: str | None) -> list[str]:
    """Return the names of a list such as `inverse, prefix`."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def open_detector(detector: str | None) -> "Detector":
    """Load a detector by its name, or the default."""
    from nescio.pii.registry import load_detector

    return load_detector() if detector is None else load_detector(detector)
