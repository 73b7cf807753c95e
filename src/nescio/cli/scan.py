"""`nescio scan`: personal data in a file of texts, counted by label."""

import json
from pathlib import Path
from typing import Annotated

import typer


def scan(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines: texts, or objects with a text field.")],
    detector: Annotated[
        str, typer.Option(help="Detector, such as spacy:MODEL or presidio:MODEL.")
    ] = "spacy:en_core_web_sm",
    field: Annotated[
        str | None, typer.Option(help="Field that holds the text. Default: text, answer or content.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count the personal data in a file of texts, by label."""
    from nescio.pii.registry import load_detector
    from nescio.pii.scan import scan as count

    found = count(path, load_detector(detector), field)
    if as_json:
        print(json.dumps(found))
        return
    for label, number in found["labels"].items():
        print(f"{label:<12}{number:>7}")
    print(f"{'total':<12}{found['total']:>7}")
