"""`nescio key …`: the API keys of a server."""

import typer

from nescio.serve.keys import hash_key, new_key

app = typer.Typer(help="The API keys of a server.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The API keys of a server."""


@app.command()
def new() -> None:
    """Make a key: the key itself, for the caller, shown once; and its hash, for a policy's `keys`."""
    key = new_key()
    print(f"key:  {key}\nhash: {hash_key(key)}")
