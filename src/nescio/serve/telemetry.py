"""Traces of requests for OpenTelemetry: who asked, how it ended and how long it took; never what was said."""

import time
from collections.abc import Callable

from nescio.core.extras import require

Trace = Callable[[str, float, dict[str, str | bool]], None]
"""Called at the end of a request with its endpoint, its seconds and attributes."""


def tracing(url: str) -> tuple[Trace, Callable[[], None]]:
    """Export traces to a collector, in batches from a thread of their own.

    Args:
        url: Where it takes OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces.

    Returns:
        What records a request, and what sends the rest and ends the thread.

    Raises:
        NotInstalledError: The exporter is not installed.
    """
    needs = ("telemetry", "--telemetry")
    exporter = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", *needs)
    export = require("opentelemetry.sdk.trace.export", *needs)
    resource = require("opentelemetry.sdk.resources", *needs).Resource.create({"service.name": "nescio"})
    provider = require("opentelemetry.sdk.trace", *needs).TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(exporter.OTLPSpanExporter(endpoint=url)))
    tracer = provider.get_tracer("nescio.serve")

    def trace(endpoint: str, seconds: float, attributes: dict[str, str | bool]) -> None:
        end = time.time_ns()
        start = end - int(seconds * 1e9)
        tracer.start_span(endpoint, start_time=start, attributes=attributes).end(end)

    return trace, provider.shutdown
