"""`nescio plugins`: what is registered, and the package that brings it."""

import json
from dataclasses import asdict
from typing import Annotated

import typer


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List what is registered, from detectors to forms of tool calls, and the package that brings each."""
    from nescio.plugins import listings

    found = listings()
    if as_json:
        print(json.dumps([asdict(listing) for listing in found]))
        return
    for listing in found:
        print(f"{listing.group:<20} {listing.name:<18} {listing.origin}")
