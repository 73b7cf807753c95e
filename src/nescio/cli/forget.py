"""`nescio forget`: an erasure request, carried out on the adapter of a run."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nescio.cli.options import names_of
from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError

PersonOption = Annotated[
    Path, typer.Option("--person", help="The person, or several, with their facts: CSV or JSON lines with a name.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder for a copy of the certificate.")]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", help="Key that names people in the certificate and signs it. Default: RUN/forget.key."),
]
AttacksOption = Annotated[str | None, typer.Option(help="Attacks that are tried, as inverse,prefix. Default: all.")]
DrawsOption = Annotated[int, typer.Option(min=1, help="Answers that are sampled to each plain question.")]
EpochsOption = Annotated[int, typer.Option(min=1, help="Passes over the answers in each round.")]
RateOption = Annotated[float, typer.Option(help="Learning rate.")]


def forget(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run.")],
    person: PersonOption,
    out: OutOption = None,
    key: KeyOption = None,
    attacks: AttacksOption = None,
    draws: DrawsOption = 16,
    epochs: EpochsOption = 1,
    learning_rate: RateOption = 3e-4,
) -> None:
    """Make a run's adapter say nothing of a person, and certify what comes out before and after.

    The adapter goes on from where it is, and keeps what earlier requests made it forget. Run the same command again to
    go on where it stopped. Exit code 1: the certificate says that the request does not hold.
    """
    if out is not None and out.is_file():
        raise NescioError(f"--out {out}: is a file; name a folder")  # before hours of work
    quiet_libraries()
    from nescio.audit.certificate import NAME, sentence, shows_nothing
    from nescio.core.files import read_object
    from nescio.pipeline.forget import KEY, Erasure
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.recipe import recipe_of
    from nescio.pipeline.run import Run

    erasure = Erasure(
        people=person, key=key or run / KEY, attacks=names_of(attacks), draws=draws,
        epochs=epochs, learning_rate=learning_rate,
    )  # fmt: skip
    folder = Run(recipe_of(run), run, Terminal(standard())).forget(erasure)
    if out is not None:
        folder = Path(shutil.copytree(folder, out, dirs_exist_ok=True))
    content = read_object(folder / f"{NAME}.json", "run the same command again")
    print(f"\n{sentence(content)}\nCertificate: {folder / f'{NAME}.html'}\nKey: {erasure.key}")
    failed = {test["test"] for test in content["tests"] if test["state"] == "failed"}
    if failed & {"forgotten", "earlier requests"}:
        print("More is forgotten with higher --epochs or --learning-rate; the adapter goes on from where it is.")
    if failed - {"forgotten", "earlier requests"}:
        print(f"It answers worse: put {run / 'forgotten/before'} back in place of adapter/, and train less.")
    if shows_nothing(content):
        print(_hint(content))
    sys.exit(1 if failed else 0)


def _hint(content: Mapping[str, Any]) -> str:
    """Say what to check where nothing came out before the request either."""
    said = "Nothing was shown, since nothing came out before"
    people, named = len(content["about"]), content["named_in_dialogs"]  # None: the dialogs are deleted
    if content["detached"]["found"]:
        return f"{said}; but the model under the adapter knows, so keep the adapter on."
    if named is not None and named < people:
        return (
            f"{said}. No training dialog says the name of {people - named} of {people} people: check how it is written."
        )
    return f"{said}: check how names and values are written."
