"""`nescio export`: a baked adapter, merged into its base, for tools that know nothing of nescio."""

from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.quiet import quiet_libraries


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|ADAPTER", help="Folder of a run, or of a PEFT adapter.")],
    out: Annotated[Path, typer.Option(help="Folder to write. It must not exist.")],
    gguf: Annotated[
        str | None, typer.Option(help="Write a GGUF of this type: f16, q8_0, q4_0, q4_1. Default: safetensors.")
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also if a sentence opens the adapter, or its row failed the verdict.")
    ] = False,
) -> None:
    """Merge an adapter into its base and write a model for Transformers, or a GGUF for llama.cpp, Ollama, LM Studio."""
    quiet_libraries()
    from nescio.pipeline.export import export as write

    print(f"Written: {write(source, out, gguf, anyway)}. Its answers were not checked: ask it before you rely on it.")
