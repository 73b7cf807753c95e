"""`nescio certificate`: whether the certificate of an erasure request is genuine, and about whom."""

from pathlib import Path
from typing import Annotated

import typer


def certificate(
    file: Annotated[Path, typer.Argument(metavar="CERTIFICATE", help="certificate.json of nescio forget.")],
    key: Annotated[Path, typer.Option(help="The key that it was signed with: forget.key of the run.")],
    person: Annotated[
        Path | None, typer.Option("--person", help="People with their facts: is it about all of them?")
    ] = None,
) -> None:
    """Check the signature of a certificate; with --person also that it is about these people and facts."""
    from nescio.audit.certificate import check, sentence
    from nescio.audit.people import read_people

    people = list(read_people(person)) if person else []
    content, not_asked = check(file, key, people)
    print(f"{file}: the signature fits{', and it is about all of these people' if people else ''}")
    if not_asked:
        print(f"Trained, but not asked for, since they prove nothing when they come out: {', '.join(not_asked)}")
    print(sentence(content))
