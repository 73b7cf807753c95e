"""Metrics for Prometheus, and how one request went. They hold no prompt, answer, key or address."""

import logging
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from nescio.serve.limits import RowGate
from nescio.serve.openai_api.part import Part
from nescio.serve.policy import Caller
from nescio.serve.telemetry import Trace

_LOG = logging.getLogger("nescio.serve")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Metrics of one server, in a registry of their own.

    Args:
        gate: The rows of the batch.
        replays: Returns how often the engine replayed a guided request because its branches were out of step.

    Attributes:
        trace: Called at the end of each request; None without OpenTelemetry.
    """

    def __init__(self, gate: RowGate, replays: Callable[[], int]) -> None:
        self.trace: Trace | None = None
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "nescio_requests",
            "Requests by policy, endpoint, whether guided, and how they ended",
            ("policy", "endpoint", "guided", "outcome"),
            registry=registry,
        )
        self.tokens = Counter("nescio_tokens", "Tokens of prompts and answers", ("policy", "kind"), registry=registry)
        self.first_token = Histogram(
            "nescio_time_to_first_token_seconds",
            "From the request's arrival to the first text that may be sent",
            ("policy",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.seconds = Histogram(
            "nescio_request_seconds", "From arrival to end", ("policy",), buckets=_SECONDS, registry=registry
        )
        self.personal = Counter(
            "nescio_pii", "Pieces of personal data that the audit found", ("policy", "type", "label"), registry=registry
        )
        self.sent_personal = Counter(
            "nescio_request_pii",
            "Different pieces of personal data that the audit of requests found in a request",
            ("policy", "type", "label"),
            registry=registry,
        )
        self.audit_seconds = Histogram(
            "nescio_audit_seconds", "Of one check of the audit", buckets=_SECONDS, registry=registry
        )
        self.reloads = Counter("nescio_policy_reloads", "Policy files read again", ("result",), registry=registry)
        registry.register(_Replays(replays))
        _gauge(registry, "nescio_queue_rows", "Rows that wait for a place in the batch").set_function(
            lambda: gate.waiting
        )
        _gauge(registry, "nescio_batch_rows", "Rows of the batch in use").set_function(lambda: gate.held)
        _gauge(registry, "nescio_batch_rows_limit", "Rows of the batch").set(gate.rows)
        _gauge(registry, "nescio_batch_fill", "Share of the batch's rows in use").set_function(
            lambda: gate.held / gate.rows
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Replays(Collector):
    """A counter that lives in the engine and is read on demand."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "nescio_replays", "Guided requests taken back to their branches' last common token", value=self._count()
        )


def _gauge(registry: CollectorRegistry, name: str, what: str) -> Gauge:
    return Gauge(name, what, registry=registry)


class RequestRecord:
    """How one request went, from its arrival: for the metrics, and as one line of the log.

    Args:
        metrics: Metrics to add to.
        caller: Who asks; the log names its policy, and its key if that has a name.
        endpoint: `chat`, `responses` or `completions`.
    """

    def __init__(self, metrics: Metrics, caller: Caller, endpoint: str) -> None:
        self.guided = False
        self._metrics = metrics
        self._policy = caller.name
        self._who = f"{caller.name} key={caller.key.name}" if caller.key and caller.key.name else caller.name
        self._endpoint = endpoint
        self._start = time.perf_counter()
        self._first = True
        self._ended = False

    def part(self, part: Part) -> None:
        """Count a part of the answer."""
        if self._first and (part.text or part.calls):
            self._first = False
            self._metrics.first_token.labels(self._policy).observe(time.perf_counter() - self._start)
        for span in part.found:
            self._metrics.personal.labels(self._policy, span.type, span.label).inc()

    def end(self, outcome: str) -> None:
        """Count the end: `answered`, `hung_up` or an error's code. Only the first call counts."""
        if self._ended:
            return
        self._ended = True
        seconds = time.perf_counter() - self._start
        guided = "true" if self.guided else "false"
        self._metrics.requests.labels(self._policy, self._endpoint, guided, outcome).inc()
        self._metrics.seconds.labels(self._policy).observe(seconds)
        if self._metrics.trace is not None:
            attributes: dict[str, str | bool] = {
                "nescio.policy": self._policy,
                "nescio.guided": self.guided,
                "nescio.outcome": outcome,
            }
            self._metrics.trace(self._endpoint, seconds, attributes)
        _LOG.info("%s policy=%s guided=%s %s in %.3f s", self._endpoint, self._who, guided, outcome, seconds)
