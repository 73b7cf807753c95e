"""`nescio serve`: the OpenAI-compatible server."""

from pathlib import Path
from typing import Annotated

import typer

from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError
from nescio.core.extras import require


def serve(
    model: Annotated[str, typer.Argument(help="Hub id, folder, .gguf file, adapter folder, or smollm2.")],
    policies: Annotated[Path, typer.Option(help="Who may ask for what (YAML); SIGHUP reads it again.")],
    adapter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="PEFT adapter to serve under a name. Repeatable.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one and prints it.")] = 8000,
    engine: Annotated[str, typer.Option(help="What answers: torch or vllm.")] = "torch",
    vllm: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of vLLM's EngineArgs. Repeatable.")
    ] = None,
    rows: Annotated[int, typer.Option(min=2, help="Rows of the batch; a guided answer takes two.")] = 32,
    cache_tokens: Annotated[
        int, typer.Option(min=256, help="Most tokens in the torch engine's cache; a guided answer's count four times.")
    ] = 1 << 15,
    precision: Annotated[
        str, typer.Option(help="Of the torch engine's weights on a CPU: full, or half (fp16, computed in fp32).")
    ] = "full",
    queue: Annotated[int, typer.Option(min=0, help="Most rows that wait; beyond them callers get 429.")] = 128,
    drain: Annotated[float, typer.Option(min=0, help="Seconds for running answers when told to stop.")] = 30.0,
    max_body: Annotated[int, typer.Option(min=1, help="Most bytes of a request.")] = 2**21,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Origin whose pages may call this server from a browser. Repeatable."),
    ] = None,
) -> None:
    """Serve a model in OpenAI's shapes, with guidance and adapters by source of traffic, and a playground at /."""
    for library in ("fastapi", "prometheus_client", "uvicorn"):
        require(library, "serve", "nescio serve")
    quiet_libraries()
    from nescio.serve.engine import engine_kind, engine_options
    from nescio.serve.engine import precision as precision_of
    from nescio.serve.process import Settings, run

    adapters = dict(_named(each) for each in adapter or ())
    if len(adapters) < len(adapter or ()):
        raise NescioError("--adapter: two adapters have the same name; give each its own")
    options = engine_options(vllm or ())
    kind, weights = engine_kind(engine), precision_of(precision)
    run(
        Settings(
            model=model,
            adapters=adapters,
            policies=policies,
            host=host,
            port=port,
            engine=kind,
            rows=rows,
            cache_tokens=cache_tokens,
            precision=weights,
            queue=queue,
            drain=drain,
            max_body=max_body,
            cors_origins=cors_origin or (),
            options=options,
        )
    )


def _named(each: str) -> tuple[str, Path]:
    name, equals, path = each.partition("=")
    if not (name and equals and path):
        raise NescioError(f"--adapter {each}: must read NAME=PATH")
    return name, Path(path)
