"""`nescio key …`: API keys of the server, and the secret of a run's guidance."""

from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError
from nescio.core.switch import KEY_FILE, KEY_PLACEHOLDER, draw_key, read_key, write_key
from nescio.serve.keys import hash_key, new_key

app = typer.Typer(help="API keys of the server, and the secret of a run's guidance.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """API keys of the server, and the secret of a run's guidance."""


@app.command()
def rotate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run whose switch is a secret.")],
) -> None:
    """Draw a new secret for a run's guidance, and train and bake again with it; the old one opens nothing."""
    quiet_libraries()
    from nescio.core.alone import alone
    from nescio.pipeline.forget import refuse_retraining
    from nescio.pipeline.progress import Terminal, standard
    from nescio.pipeline.recipe import recipe_of
    from nescio.pipeline.run import Run

    recipe = recipe_of(run)
    if KEY_PLACEHOLDER not in recipe.pairs.negative:
        raise NescioError(
            f"{run}: its switch is a public sentence; set pairs.negative to '{KEY_PLACEHOLDER}' and run it again"
        )
    refuse_retraining(run, "training with another key")
    read_key(run / KEY_FILE)
    training = Run(recipe, run, Terminal(standard()))
    training.check()  # with another key, today's adapter can no longer be guided
    with alone(run):  # a run at work reads the old key
        write_key(run, draw_key())
    training.execute()


@app.command()
def new() -> None:
    """Make a key for a client, and its hash for the `keys` of a policy. The key is shown only once."""
    key = new_key()
    print(f"key:  {key}\nhash: {hash_key(key)}")
