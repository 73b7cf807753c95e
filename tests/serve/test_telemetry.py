"""Traces reach a collector, with how a request went and nothing that was said."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec

import pytest
from running import Running
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.errors import NotInstalledError
from nescio.serve.telemetry import tracing

HAS_SDK = find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    came: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *said: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", came
    server.shutdown()


@pytest.mark.skipif(not HAS_SDK, reason="needs nescio[telemetry]")
@pytest.mark.filterwarnings("ignore")
def test_a_request_is_a_span_without_content(server: Running, collector: tuple[str, list[bytes]]) -> None:
    url, came = collector
    trace, end = tracing(url)
    server.gateway.metrics.trace = trace
    try:
        server.chat("Zanzibar", key="nescio-staff")
        server.chat("Zanzibar", model="other")
    finally:
        server.gateway.metrics.trace = None
        end()
    sent = b"".join(came)
    for word in (b"chat", b"staff", b"answered", b"model_not_found", b"nescio.outcome"):
        assert word in sent
    assert b"Zanzibar" not in sent
    assert b"nescio-staff" not in sent


@pytest.mark.skipif(HAS_SDK, reason="the exporter is installed")
def test_without_the_extra_the_error_names_it() -> None:
    with pytest.raises(
        NotInstalledError, match=r"--telemetry: opentelemetry\S* is not installed; .*nescio\[telemetry\]"
    ):
        tracing("http://127.0.0.1:9/v1/traces")


def test_an_address_that_is_none_is_refused() -> None:
    said = CliRunner().invoke(app, ["serve", "m", "--policies", "x", "--telemetry", "localhost:4318"])
    assert "--telemetry localhost:4318: must read" in f"{said.output}{said.exception}"
