"""The process: model and policies opened, uvicorn run, signals heeded. Knows the operating system; no request."""

import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from nescio.core.errors import NescioError
from nescio.engines.base import Precision
from nescio.engines.registry import EngineKind
from nescio.pii.base import Detector, Span
from nescio.pii.registry import load_detector
from nescio.serve.app import create_app
from nescio.serve.engine import adapter_names, open_served, served_by
from nescio.serve.gateway import Serving
from nescio.serve.policy import Policies, load_policies

_LOG = logging.getLogger("nescio.serve")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the command line says.

    Attributes:
        model: As for `nescio.load`.
        adapters: Folder of each adapter by the name that callers use.
        policies: The policy file.
        host: Address to listen on.
        port: 0 takes a free one.
        engine: Which engine answers.
        rows: Rows of its batch; a guided answer takes two.
        cache_tokens: Most tokens in the torch engine's cache.
        precision: Of the torch engine's weights.
        queue: Most rows that wait for a place in the batch.
        drain: Seconds that a stopping server gives to what is running.
        max_body: Most bytes of a request's body.
        cors_origins: Origins of pages in whose scripts browsers may read answers; none by default.
        options: Of vLLM's `EngineArgs`, where it is the engine.
    """

    model: str
    adapters: Mapping[str, Path]
    policies: Path
    host: str = "127.0.0.1"
    port: int = 8000
    engine: EngineKind = "torch"
    rows: int = 32
    cache_tokens: int = 1 << 15
    precision: Precision = "full"
    queue: int = 128
    drain: float = 30.0
    max_body: int = 2**21
    cors_origins: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class _OneAtATime:
    """A detector that many threads may use: a pipeline's vocabulary is not made for two at once."""

    def __init__(self, detector: Detector) -> None:
        self.name = detector.name
        self._detector = detector
        self._lock = threading.Lock()

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        with self._lock:
            return self._detector.find(texts)


def _load_detector(policies: Policies) -> Detector:
    return _OneAtATime(load_detector(policies.detector, policies.ignore))


async def reload(serving: Serving, path: Path) -> None:
    """Read the policies again; a file with any mistake changes nothing. What is running keeps what it began with.

    A detector takes seconds to load: it is loaded in a thread, while answers go on, and only where it is another one.
    """
    old = serving.policies
    try:
        policies = await asyncio.to_thread(load_policies, path, list(serving.served.adapters))
        same = (policies.detector, policies.ignore) == (old.detector, old.ignore)
        detector = serving.detector if same else await asyncio.to_thread(_load_detector, policies)
    except Exception as error:  # whatever it is, the server goes on as it was
        serving.metrics.reloads.labels("refused").inc()
        said = str(error) if isinstance(error, NescioError) else f"{type(error).__name__}: {error}"
        _LOG.error("policies stay as they were: %s", " ".join(said.split()))
        return
    serving.policies, serving.detector = policies, detector
    serving.metrics.reloads.labels("taken").inc()
    _LOG.info("policies read again: %s", ", ".join(policies.policies))


class _Server(uvicorn.Server):
    """Uvicorn that, told to stop, refuses what is new with a word, and stops when what was running has ended."""

    def __init__(self, config: uvicorn.Config, serving: Serving, settings: Settings) -> None:
        super().__init__(config)
        self._serving = serving
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
        """Read the policies again, after a reading that is still on its way: the last one told counts."""
        before = self._reloading

        async def reading() -> None:
            if before is not None:
                await before
            await reload(self._serving, self._settings.policies)

        self._reloading = asyncio.create_task(reading())

    def _stop(self, number: signal.Signals) -> None:
        """Drain first; told a second time, stop at once."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._drain(number))
        else:
            self.handle_exit(number, None)

    async def _drain(self, number: signal.Signals) -> None:
        await self._serving.drain(self._settings.drain)
        self.handle_exit(number, None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self._serving.close()


def run(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        NescioError: The model, an adapter or the policies are missing or wrong, or the port is taken.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    _LOG.setLevel(logging.INFO)
    adapters = adapter_names(settings.model, settings.adapters)
    policies = load_policies(settings.policies, list(adapters))  # before the model: a mistake is told at once
    listening = _listen(settings)
    detector = _load_detector(policies)
    engine = open_served(
        settings.engine, settings.model, settings.adapters, settings.rows,
        settings.cache_tokens, settings.precision, settings.options,
    )  # fmt: skip
    served = served_by(engine, settings.model, adapters)
    serving = Serving(engine, served, policies, detector, settings.rows, settings.queue)
    config = uvicorn.Config(
        create_app(serving, settings.max_body, settings.cors_origins),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    _Server(config, serving, settings).run([listening])


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
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
