"""Command line options for the fields of `Guidance`."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated

import typer

from nescio.core.guidance import Guidance


def guidance_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field of `Guidance`, in place of its last parameter, `**guidance`."""
    signature = inspect.signature(command)
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[field.type, typer.Option(help=field.metadata["help"])],
        )
        for field in fields(Guidance)
    ]
    parameters = [*list(signature.parameters.values())[:-1], *options]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command
