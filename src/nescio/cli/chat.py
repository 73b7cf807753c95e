"""`nescio chat`: a conversation with a model on the terminal."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nescio.cli.guidance_options import guidance_options
from nescio.cli.quiet import quiet_libraries


@guidance_options
def chat(
    model: Annotated[str, typer.Argument(help="Hub id, folder, .gguf file, adapter folder, or smollm2.")] = "smollm2",
    adapter: Annotated[Path | None, typer.Option(help="PEFT adapter folder to attach.")] = None,
    message: Annotated[str | None, typer.Option(help="Answer this one message and end.")] = None,
    protect: Annotated[
        bool | None,
        typer.Option(
            "--protect/--no-protect",
            help="Add the protect sentence. Default: where guidance needs it, or the adapter was trained with one.",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens in an answer.")] = 256,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    **guidance: Any,
) -> None:
    """Chat with a model, guided or not. An empty line ends the conversation."""
    from nescio.cli.terminal_chat import Settings, talk
    from nescio.core.guidance import Guidance

    quiet_libraries()
    settings = Settings(Guidance(**guidance), protect, max_tokens, temperature, seed)
    talk(model, adapter, settings, message)
