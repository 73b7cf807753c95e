"""`nescio serve`: the OpenAI-compatible server."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
import yaml

from nescio.cli.quiet import quiet_libraries
from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.core.model_source import check_model_name
from nescio.core.yaml_config import yaml_value
from nescio.engines.base import Precision

_UPSTREAM = re.compile(r"https?://\S+")
_ORIGIN = re.compile(r"\*|https?://[^/\s]+")


ModelArgument = Annotated[
    str,
    typer.Argument(help="Hub id, folder, .gguf file, adapter folder, or smollm2; with --upstream, its name there."),
]
PoliciesOption = Annotated[
    Path,
    typer.Option(help="Policy file (YAML; docs/serving.md has the smallest); SIGHUP makes the server read it again."),
]
AdapterOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME=PATH", help="PEFT adapter to serve under a name. Repeatable.")
]
HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one and prints it.")]
EngineOption = Annotated[str, typer.Option(help="Engine that answers: torch, vllm or a plugin's.")]
VllmOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Option of vLLM's EngineArgs. Repeatable."),
]
UpstreamOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Put policies and the audit in front of another OpenAI-compatible server (…/v1)."),
]
UpstreamKeyEnvOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Environment variable with the upstream's API key.")
]
UpstreamTimeoutOption = Annotated[
    float, typer.Option(min=0.1, help="Seconds without a word from the upstream after which a request fails.")
]
TelemetryOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Send traces to OpenTelemetry's collector (http://host:4318/v1/traces)."),
]
RowsOption = Annotated[int, typer.Option(min=2, help="Rows of the batch. A guided answer takes two.")]
CacheTokensOption = Annotated[
    int,
    typer.Option(min=256, help="Most tokens in the torch engine's cache; a guided answer's count four times."),
]
PrecisionOption = Annotated[
    str,
    typer.Option(help="Torch engine's weights on a CPU: full, half (fp16), int8, or bf16 (where the CPU has it)."),
]
QueueOption = Annotated[int, typer.Option(min=0, help="Most rows that may wait. Further requests get 429.")]
DrainOption = Annotated[float, typer.Option(min=0, help="Seconds that running answers have after a stop signal.")]
MaxBodyOption = Annotated[int, typer.Option(min=1, help="Largest request body, in bytes.")]
CorsOriginOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORIGIN",
        help="Origin whose pages may call this server; * allows all. Repeatable.",
    ),
]


def serve(
    model: ModelArgument,
    policies: PoliciesOption,
    adapter: AdapterOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    engine: EngineOption = "torch",
    vllm: VllmOption = None,
    upstream: UpstreamOption = None,
    upstream_key_env: UpstreamKeyEnvOption = None,
    upstream_timeout: UpstreamTimeoutOption = 60.0,
    rows: RowsOption = 32,
    cache_tokens: CacheTokensOption = 1 << 15,
    precision: PrecisionOption = "full",
    queue: QueueOption = 128,
    drain: DrainOption = 30.0,
    max_body: MaxBodyOption = 2**21,
    cors_origin: CorsOriginOption = None,
    telemetry: TelemetryOption = None,
) -> None:
    """Serve a model through OpenAI's API, with guidance and adapters by API key, and a playground at /."""
    for library in ("fastapi", "prometheus_client", "uvicorn"):
        require(library, "serve", "nescio serve")
    quiet_libraries()
    from nescio.engines.registry import ENGINES, is_endpoint
    from nescio.serve.process import Settings, run

    adapters = dict(_named(each) for each in adapter or ())
    if len(adapters) < len(adapter or ()):
        raise NescioError("--adapter: two adapters have the same name; give each its own")
    known_values = {"--engine": (engine, ENGINES.names()), "--precision": (precision, get_args(Precision))}
    for option, (value, known) in known_values.items():
        if value not in known:
            raise NescioError(f"{option} {value}: unknown; known here: {', '.join(known)}")
    for origin in cors_origin or ():
        if not _ORIGIN.fullmatch(origin):
            raise NescioError(f"--cors-origin {origin}: must read https://host or https://host:port, or * for any")
    _check_upstream(upstream, adapters, vllm)
    if telemetry is not None and not _UPSTREAM.fullmatch(telemetry):
        raise NescioError(f"--telemetry {telemetry}: must read http://host:port/v1/traces")
    if upstream is None and not is_endpoint(engine):  # an endpoint has names of its own
        check_model_name(model)  # the policies, the detector and the model take longer to read
    run(
        Settings(
            model=model, adapters=adapters, policies=policies, host=host, port=port, engine=engine, rows=rows,
            cache_tokens=cache_tokens, precision=cast(Precision, precision), queue=queue, drain=drain,
            max_body=max_body, cors_origins=cors_origin or (), options=_engine_options(vllm or ()),
            upstream=upstream, upstream_key_env=upstream_key_env, upstream_timeout=upstream_timeout,
            telemetry=telemetry,
        )
    )  # fmt: skip


def _check_upstream(upstream: str | None, adapters: dict[str, Path], vllm: Sequence[str] | None) -> None:
    if upstream is None:
        return
    if not _UPSTREAM.fullmatch(upstream):
        raise NescioError(f"--upstream {upstream}: must read http://host:port/v1 or https://host/v1")
    if adapters or vllm:
        option = "--adapter" if adapters else "--vllm"
        raise NescioError(f"{option}: not with --upstream; a policy's adapters name further models of the upstream")


def _named(each: str) -> tuple[str, Path]:
    name, equals, path = each.partition("=")
    if not (name and equals and path):
        raise NescioError(f"--adapter {each}: must read NAME=PATH")
    return name, Path(path)


def _engine_options(given: Sequence[str]) -> dict[str, Any]:
    """Read `NAME=VALUE` options of vLLM; the values are YAML."""
    options = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise NescioError(f"--vllm {each}: must read NAME=VALUE")
        try:
            options[name] = yaml_value(value)
        except yaml.YAMLError as error:
            raise NescioError(f"--vllm {each}: the value is not YAML") from error
    return options
