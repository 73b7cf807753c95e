"""The server process: opens the model and the policies, runs uvicorn, handles signals."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn

from nescio.core.adapters import opened_by
from nescio.core.errors import NescioError
from nescio.engines.base import Engine, Precision
from nescio.engines.openai_engine import OpenAIEngine
from nescio.engines.registry import open_engine
from nescio.serve.app import create_app
from nescio.serve.detection import ServingDetector
from nescio.serve.gateway import Gateway
from nescio.serve.policy import Policies, load_policies
from nescio.serve.served import adapter_folders, served_by, served_upstream
from nescio.serve.telemetry import tracing

_LOG = logging.getLogger("nescio.serve")
_RETRIES = 2  # of an upstream that is busy, broken or out of reach, before it has begun to answer
_LONGEST_ASKED = 2.0  # seconds that a busy upstream may ask for, while the rows of the request are held


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of a server, as the command line gives them.

    Attributes:
        model: As for `nescio.load`.
        adapters: Folder of each adapter by name.
        policies: The policy file.
        host: Address to listen on.
        port: 0 takes a free one.
        engine: Kind of engine that answers.
        rows: Rows of the batch; a guided answer takes two.
        cache_tokens: Most tokens in the torch engine's cache.
        precision: Precision of the torch engine's weights.
        queue: Most rows that may wait for the batch.
        drain: Seconds that running requests get when the server stops.
        max_body: Largest request body, in bytes.
        cors_origins: Origins whose pages may call the server from a browser; none by default.
        options: vLLM's `EngineArgs`; none for other engines.
        upstream: Address of another OpenAI-compatible server, up to `/v1`, that answers in place of an engine here.
        upstream_key_env: Environment variable with the key of the upstream; None sends none.
        upstream_timeout: Seconds without a word from the upstream after which a request fails.
        telemetry: Where a collector of OpenTelemetry takes traces; None sends none.
    """

    model: str
    adapters: Mapping[str, Path]
    policies: Path
    host: str = "127.0.0.1"
    port: int = 8000
    engine: str = "torch"
    rows: int = 32
    cache_tokens: int = 1 << 15
    precision: Precision = "full"
    queue: int = 128
    drain: float = 30.0
    max_body: int = 2**21
    cors_origins: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    upstream: str | None = None
    upstream_key_env: str | None = None
    upstream_timeout: float = 60.0
    telemetry: str | None = None


def _detector_of(policies: Policies) -> ServingDetector:
    """Return the detector of the policies, loaded if one of them has an audit, so that a mistake shows at once."""
    detector = ServingDetector(policies.detector, **policies.detector_settings)
    if _audited(policies):
        name = detector.load().name
        _LOG.log(
            logging.WARNING if ", reduced to " in name else logging.INFO, "answers are checked by detector %s", name
        )
    return detector


def _audited(policies: Policies) -> bool:
    return any(not (each.audit.off and each.audit_requests.off) for each in policies.policies.values())


async def reload(gateway: Gateway, path: Path) -> None:
    """Read the policies again. A file with a mistake changes nothing; running requests keep their policy.

    Loading a detector takes seconds, so it is done in a thread, and only if the detector has changed.
    """
    old = gateway.policies
    try:
        served, own = gateway.served, list(gateway.served.adapters) if gateway.served.guides else None
        policies = await asyncio.to_thread(load_policies, path, own)
        if own is None:  # the policies name the upstream's models
            served = replace(served_upstream(served.name, policies), created=served.created)
        named = [(each.detector, each.detector_settings) for each in (policies, old)]
        same = named[0] == named[1]
        same = same and (_audited(old) or not _audited(policies))  # a detector not loaded yet may fail to load
        detector = gateway.detector if same else await asyncio.to_thread(_detector_of, policies)
    except Exception as error:  # any error: the server goes on with the old policies
        gateway.metrics.reloads.labels("refused").inc()
        reason = str(error) if isinstance(error, NescioError) else f"{type(error).__name__}: {error}"
        _LOG.error("policies stay as they were: %s", " ".join(reason.split()))
        return
    if isinstance(gateway.engine, OpenAIEngine):
        gateway.engine.models |= served.adapters.keys()
    gateway.policies, gateway.detector, gateway.served = policies, detector, served
    gateway.metrics.reloads.labels("taken").inc()
    _LOG.info("policies read again: %s", ", ".join(policies.policies))


class _Server(uvicorn.Server):
    """Uvicorn that, when it is told to stop, refuses new requests and first finishes the running ones."""

    def __init__(
        self, config: uvicorn.Config, gateway: Gateway, settings: Settings, end_tracing: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._end_tracing = end_tracing
        self._gateway = gateway
        self._settings = settings
        self._stopping: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._reload)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop, number)
            port = self.servers[0].sockets[0].getsockname()[1]
            print(f"nescio serves on http://{self._settings.host}:{port}", flush=True)

    def _reload(self) -> None:
        """Read the policies again, after a reload that still runs, so that the last one wins."""
        before = self._reloading

        async def reading() -> None:
            if before is not None:
                await before
            await reload(self._gateway, self._settings.policies)

        self._reloading = asyncio.create_task(reading())

    def _stop(self, number: signal.Signals) -> None:
        """Drain first; on a second signal, stop at once."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._drain(number))
        else:
            self.handle_exit(number, None)

    async def _drain(self, number: signal.Signals) -> None:
        await self._gateway.drain(self._settings.drain)
        self.handle_exit(number, None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self._gateway.close()
        await asyncio.to_thread(self._end_tracing)  # here, because a signal ends the process right after


def run(settings: Settings) -> None:
    """Serve until a signal stops the process.

    Raises:
        NescioError: The model, an adapter or the policies are missing or wrong, or the port is taken.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    _LOG.setLevel(logging.INFO)
    adapters = {} if settings.upstream else adapter_folders(settings.model, settings.adapters)
    for name, folder in adapters.items():
        if sentence := opened_by(folder):
            opens = "adapter %s: whoever writes %r gets what it was trained to hide; `nescio bake RUN` takes that away"
            _LOG.warning(opens, name, sentence)
    # The policies come before the model, so that a mistake shows at once.
    policies = load_policies(settings.policies, None if settings.upstream else list(adapters))
    upstream = served_upstream(settings.model, policies) if settings.upstream else None
    trace, end_tracing = tracing(settings.telemetry) if settings.telemetry else (None, lambda: None)
    listening = _listen(settings)
    detector = _detector_of(policies)
    engine = open_upstream(settings, list(upstream.adapters)) if upstream else open_served(settings)
    gateway = Gateway(
        engine=engine,
        served=upstream or served_by(engine, settings.model, adapters),
        policies=policies,
        detector=detector,
        rows=settings.rows,
        queue=settings.queue,
    )
    gateway.metrics.trace = trace
    config = uvicorn.Config(
        create_app(gateway, settings.max_body, settings.cors_origins),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    _Server(config, gateway, settings, end_tracing).run([listening])


def open_served(settings: Settings) -> Engine:
    """Open the engine and load its adapters.

    Raises:
        NescioError: Something is missing, damaged, or does not fit.
    """
    kind, options = settings.engine, settings.options
    if options and kind != "vllm":
        raise NescioError(f"--vllm {next(iter(options))}: only with --engine vllm")
    is_torch = kind in ("torch", "local")
    if settings.precision != "full" and not is_torch:
        raise NescioError(f"--precision {settings.precision}: only with --engine torch; vLLM has --vllm dtype=…")
    if kind == "vllm":
        options = {"max_num_seqs": settings.rows, **options}
    elif is_torch:
        options = {
            "max_rows": settings.rows,
            "precision": settings.precision,
            "cache_tokens": settings.cache_tokens,
        }
    return open_engine(kind, settings.model, settings.adapters, options)


def open_upstream(settings: Settings, models: Sequence[str]) -> Engine:
    """Open the engine that asks another server.

    Args:
        settings: The settings.
        models: Further models of the upstream that callers may name.

    Raises:
        NescioError: The client is not installed or the key is not set.
    """
    options = {
        "base_url": settings.upstream, "key_env": settings.upstream_key_env, "models": models, "retries": _RETRIES,
        "timeout": settings.upstream_timeout, "longest_asked": _LONGEST_ASKED,
        "strict": True,
    }  # fmt: skip
    return open_engine("openai", settings.model, {}, options)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio switches Nagle's delay off for sockets that say that they are TCP.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        place = f"{settings.host}:{settings.port}"
        raise NescioError(
            f"{place}: cannot listen there ({error.strerror}); choose another --host or --port"
        ) from error
    return listening
