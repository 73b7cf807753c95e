"""`nescio scan`: personal data in texts, counted, listed or marked."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nescio.cli.options import READ, DetectorOption, FieldOption, open_detector
from nescio.cli.text_sources import printable, texts_of
from nescio.core.errors import NescioError

if TYPE_CHECKING:
    from nescio.pii.base import Span
    from nescio.pii.scan import Found

_COLORS = ("black on bright_yellow", "black on bright_cyan", "black on bright_green", "black on bright_magenta")


def scan(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help=f"Files or folders: {READ} `-` reads standard input.")
    ],
    detector: DetectorOption = None,
    field: FieldOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object of counts.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a line of CSV for each piece.")] = False,
    marks: Annotated[bool, typer.Option("--marks", help="Print the texts that hold any, with marks.")] = False,
    fail_on: Annotated[
        str | None, typer.Option(help="End with exit code 1 if one of these types is there, as person,phone.")
    ] = None,
) -> None:
    """Find the personal data in files, folders or standard input; say how much of which type, or where."""
    from nescio.data.texts import check_exists
    from nescio.pii.registry import counted_types
    from nescio.pii.scan import counts
    from nescio.pii.scan import scan as look
    from nescio.pii.taxonomy import checked_type

    if as_json + as_csv + marks > 1:
        raise NescioError("--json, --csv and --marks: use one at a time")
    for source in sources:
        if str(source) != "-":
            check_exists(source)
    named = [] if fail_on is None else fail_on.split(",")  # an empty text, as of an unset variable, is a mistake
    unwanted = {checked_type(name.strip(), "--fail-on") for name in named}
    counted = counted_types(detector or "default")
    if counted is not None and (never := unwanted.difference(counted)):
        raise NescioError(
            f"--fail-on: the detector {detector or 'default'} counts no {', '.join(sorted(never))}, so this never "
            "fails; leave it out, or name a --detector that does"
        )
    finder = open_detector(detector)
    seen: Counter[str] = Counter()
    with texts_of(sources, field) as texts:
        found = _noted(look(texts, finder), seen)
        if as_json:
            print(json.dumps(counts(found)))
        elif as_csv:
            _list(found)
        elif marks:
            _mark(found)
        else:
            _table(found, finder.name)
    if failing := {kind: seen[kind] for kind in sorted(unwanted) if seen[kind]}:
        pieces = ", ".join(f"{number} {kind}" for kind, number in failing.items())
        print(f"nescio: found {pieces} (--fail-on)", file=sys.stderr)
        raise typer.Exit(1)


def _noted(found: "Iterable[Found]", seen: Counter[str]) -> "Iterator[Found]":
    """Pass on what was found, and count it by type."""
    for text, spans in found:
        seen.update(span.type for span in spans)
        yield text, spans


def _table(found: "Iterable[Found]", detector: str) -> None:
    labels = Counter((span.type, span.label) for _, spans in found for span in spans)
    for (kind, label), number in labels.most_common():
        print(f"{kind:<14}{label:<22}{number:>7}")
    print(
        f"{'total':<36}{labels.total():>7}\nBy the detector {detector}; `nescio detect check` tells how much it sees."
    )


def _list(found: "Iterable[Found]") -> None:
    lines = csv.writer(sys.stdout)
    lines.writerow(["place", "start", "end", "type", "label", "text"])
    for text, spans in found:
        for span in spans:
            lines.writerow([text.at(span.start), span.start, span.end, span.type, span.label, span.text])


def _mark(found: "Iterable[Found]") -> None:
    from rich.console import Console

    from nescio.pii.marks import marked

    console = Console(soft_wrap=True, highlight=False, emoji=False)
    for text, spans in found:
        if not spans:
            continue
        console.print(text.at(0), style="dim", markup=False)
        if console.is_terminal:
            console.print(_colored(text.text, spans))
        else:
            print(marked(text.text, [replace(span, label=span.type) for span in spans]))
        console.print()


def _colored(text: str, spans: "Iterable[Span]") -> object:
    from rich.text import Text as RichText

    from nescio.pii.base import merge
    from nescio.pii.taxonomy import TYPES

    colored, position = RichText(), 0
    for span in merge(spans, text):
        colored.append(printable(text[position : span.start]))
        colored.append(printable(text[span.start : span.end]), _COLORS[TYPES.index(span.type) % len(_COLORS)])
        colored.append(f" {span.type} ", "dim italic")
        position = span.end
    return colored.append(printable(text[position:]))
