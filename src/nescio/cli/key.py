"""`nescio key …`: API keys of the server."""

import typer

from nescio.serve.keys import hash_key, new_key

app = typer.Typer(help="API keys of the server.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """API keys of the server."""


@app.command()
def new() -> None:
    """Make a key for a client, and its hash for the `keys` of a policy. The key is shown only once."""
    key = new_key()
    print(f"key:  {key}\nhash: {hash_key(key)}")
