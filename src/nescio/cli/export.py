"""`nescio export`: a trained adapter, as other programs run it: a merged model, a GGUF, a plain PEFT folder."""

from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|ADAPTER", help="Folder of a run, or of a PEFT adapter.")],
    out: Annotated[Path, typer.Option(help="Folder to write. It must not exist.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="The base with the adapter merged in, in safetensors: the default.")
    ] = False,
    gguf: Annotated[
        str | None,
        typer.Option(help="A GGUF of this type instead: f16, q8_0, q4_0, q4_1. With --adapter a LoRA in f16."),
    ] = None,
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapter alone, as PEFT reads it.")] = False,
    ollama: Annotated[bool, typer.Option("--ollama", help="With --gguf: a Modelfile for Ollama beside it.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Ask the export what the run's table asked, on its own engine."),
    ] = True,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Push it to the hub, as private.")] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: make the repository public.")] = False,
    with_switch: Annotated[
        bool, typer.Option("--with-switch", help="Export even an adapter that a sentence or a key opens.")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Export even what failed the verdict.")] = False,
) -> None:
    """Write a run's adapter as Transformers, PEFT, llama.cpp, Ollama or LM Studio run it, and check it there.

    The check costs as much as one row of the run's table, and its row stands in the run's report.
    """
    quiet_libraries()
    from nescio.pipeline.export import Wanted
    from nescio.pipeline.export import export as write
    from nescio.pipeline.progress import Terminal, standard
    from nescio.report import exports, table

    if merged and (gguf or adapter):
        raise NescioError("--merged: is the whole model in safetensors; leave it out with --gguf or --adapter")
    wanted = Wanted(
        gguf=gguf, adapter=adapter, ollama=ollama, check=check, push=push, public=public, with_switch=with_switch,
        anyway=anyway,
    )  # fmt: skip
    done = write(source, out, wanted, Terminal(standard()))
    if done.rows:
        print(f"\n{table.markdown(done.rows)}\n\n{exports.sentence(done.rows[-1], done.rows[-2])}")
    else:
        why = "its folder is not from an evaluated run" if check else "--no-check"
        print(f"Not checked ({why}): ask it before you rely on it.")
    print(f"Written: {done.path}" + (f"\nPushed: {done.url}" if done.url else ""))
