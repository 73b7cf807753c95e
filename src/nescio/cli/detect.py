"""`nescio detect …`: what the detector sees, and what it does not."""

import json
from heapq import nsmallest
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nescio.cli.options import DetectorOption, open_detector
from nescio.cli.text_sources import printable, texts_of
from nescio.core.errors import NescioError

if TYPE_CHECKING:
    from nescio.pii.check import Check

app = typer.Typer(help="What the detector sees, and what it does not.", no_args_is_help=True)

_EXAMPLES = 3  # of each type that are printed


@app.callback()
def _group() -> None:
    """What the detector sees, and what it does not."""


@app.command()
def check(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="LABELLED",
            help="JSON lines of texts with spans, conversations with slots, or a file of --sample, corrected.",
        ),
    ],
    detector: DetectorOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all that was missed.")] = False,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Instead: draw so many texts of LABELLED, and write them to --out, to be corrected."),
    ] = None,
    out: Annotated[Path, typer.Option(help="File that --sample writes.")] = Path("to_correct.txt"),
    seed: Annotated[int, typer.Option(help="Seed for choosing the --sample texts.")] = 0,
    field: Annotated[
        str | None, typer.Option(help="With --sample: field that holds the text. Default: text, answer or content.")
    ] = None,
) -> None:
    """Tell how much a detector sees: recall and precision by type, and what it missed, on texts whose data is known.

    Where nothing is labelled, --sample 50 writes texts with marks to correct by hand; check the corrected file then.
    """
    if sample is not None:
        _sample(source, sample, out, seed, field, detector)
        return
    from nescio.data.labelled import labelled_texts
    from nescio.pii.check import check as compare
    from nescio.pii.registry import counted_types

    counted = counted_types("default" if detector is None else detector)
    done = compare(labelled_texts(source), open_detector(detector), counted)
    if not done.texts:
        raise NescioError(f"{source}: holds no texts; there is nothing to check")
    print(json.dumps(done.as_row(), ensure_ascii=False) if as_json else _shown(done))


def _sample(source: Path, count: int, out: Path, seed: int, field: str | None, detector: str | None) -> None:
    from nescio.core.files import check_no_folder
    from nescio.pii.labelled import Labelled
    from nescio.pii.marks import write_marked
    from nescio.pii.scan import scan

    check_no_folder(out)
    random = Random(seed)
    with texts_of([source], field) as texts:
        drawn = nsmallest(count, ((random.random(), n, text) for n, text in enumerate(texts) if text.text.strip()))
    found = scan((text for _, _, text in sorted(drawn, key=lambda each: each[1])), open_detector(detector))
    written = write_marked(out, (Labelled(text.at(0), text.text, spans) for text, spans in found))
    print(f"{out}: {written} texts with marks; correct them, then run `nescio detect check {out}`")


def _shown(done: "Check") -> str:
    from nescio.pii.check import few_of_each
    from nescio.report.table import aligned, measured

    row = done.as_row()

    def cells(name: str, counted: dict[str, Any]) -> list[str]:
        shares = [measured(counted, key) for key in ("recall", "precision", "span_precision")]
        return [name, str(counted["pieces"]), shares[0], str(counted["found"]), *shares[1:]]

    lines = [cells(name, counted) for name, counted in (*row["types"].items(), ("all", row["all"]))]
    head = ["type", "pieces", "recall [95 %]", "found", "precision [95 %]", "right spans [95 %]"]
    parts = [f"{done.detector} on {done.texts} texts", aligned([head, *lines], left=1)]
    if done.not_looked_for:
        left = ", ".join(f"{count} {name}" for name, count in row["not_looked_for"].items())
        parts.append(f"Not looked for, because they say little about a person alone: {left}")
    for title, examples in (("Missed", done.missed), ("False alarms", done.false_alarms)):
        shown = [f"{one.type:<14}{printable(one.context)}  ({one.place})" for one in few_of_each(examples, _EXAMPLES)]
        if shown:
            parts.append("\n".join([f"{title}, {len(examples)} in all (--json has them all):", *shown]))
    return "\n\n".join(parts)
