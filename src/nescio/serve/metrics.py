"""What Prometheus reads: how much, how fast, for which policy; never any content, key or address. Knows no requests."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from nescio.serve.limits import RowGate

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """One server's metrics, in a registry of their own.

    Args:
        gate: The batch that is measured.
        replays: How often an engine took a guided request back because its branches had come apart.
    """

    def __init__(self, gate: RowGate, replays: Callable[[], int]) -> None:
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
            "nescio_pii", "Pieces of personal data that the audit found", ("policy", "label"), registry=registry
        )
        self.audit_seconds = Histogram(
            "nescio_audit_seconds", "Of one check of the output audit", buckets=_SECONDS, registry=registry
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
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Replays(Collector):
    """A counter that the engine keeps; read when it is asked for."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "nescio_replays", "Guided requests taken back to their branches' last common token", value=self._count()
        )


def _gauge(registry: CollectorRegistry, name: str, what: str) -> Gauge:
    return Gauge(name, what, registry=registry)
