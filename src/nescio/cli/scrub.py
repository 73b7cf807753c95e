"""`nescio scrub`: texts without their personal data."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.options import READ, DetectorOption, FieldOption, open_detector
from nescio.core.errors import NescioError


def scrub(
    source: Annotated[Path, typer.Argument(help=f"File, folder or glob: {READ}")],
    out: Annotated[Path, typer.Argument(help="File to write, or a folder if SOURCE is one.")],
    stand_ins: Annotated[
        bool,
        typer.Option("--stand-ins", help="Replace with made-up names and numbers, consistently, instead of [PERSON]."),
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(help="File of the key that decides on stand-ins; made where it is missing. Keep it secret."),
    ] = None,
    detector: DetectorOption = None,
    field: FieldOption = None,
) -> None:
    """Write texts again with their personal data masked, or replaced by stand-ins.

    The key comes from --key, else from the environment's NESCIO_SCRUB_KEY; else it is a new one that nobody keeps, and
    the next call gives other stand-ins.
    """
    from nescio.data.scrub import Scrubber
    from nescio.data.texts import check_exists
    from nescio.pii.stand_ins import StandIns, read_key

    if key is not None and not stand_ins:
        raise NescioError("--key: decides on stand-ins only; use it with --stand-ins")
    check_exists(source)
    finder = open_detector(detector)
    scrubber = Scrubber(finder, StandIns(read_key(key)) if stand_ins else None, field)
    count = scrubber.files(source, out, lambda line: print(f"nescio: {line}", file=sys.stderr))
    print(f"{out}: {scrubber.pieces} pieces replaced, in {count} file{'' if count == 1 else 's'}")
    print(f"What {finder.name} does not see is still there; `nescio detect check` tells how much that is.")
