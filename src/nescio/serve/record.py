"""How one request went, for the metrics and one line of the log. Knows no content."""

import logging
import time

from nescio.serve.answering import Part
from nescio.serve.metrics import Metrics

_LOG = logging.getLogger("nescio.serve")


class Record:
    """One request's, from its arrival on.

    Args:
        metrics: Where it counts.
        policy: The caller's.
        endpoint: `chat` or `completions`.
    """

    def __init__(self, metrics: Metrics, policy: str, endpoint: str) -> None:
        self.guided = False
        self._metrics = metrics
        self._policy = policy
        self._endpoint = endpoint
        self._start = time.perf_counter()
        self._first = True
        self._ended = False

    def part(self, part: Part) -> None:
        """Something may be sent."""
        if self._first and part.text:
            self._first = False
            self._metrics.first_token.labels(self._policy).observe(time.perf_counter() - self._start)
        for span in part.spans:
            self._metrics.personal.labels(self._policy, span.label).inc()

    def end(self, outcome: str) -> None:
        """It has ended: `answered`, `hung_up`, or an error's code. The first word counts."""
        if self._ended:
            return
        self._ended = True
        seconds = time.perf_counter() - self._start
        guided = "true" if self.guided else "false"
        self._metrics.requests.labels(self._policy, self._endpoint, guided, outcome).inc()
        self._metrics.seconds.labels(self._policy).observe(seconds)
        _LOG.info("%s policy=%s guided=%s %s in %.3f s", self._endpoint, self._policy, guided, outcome, seconds)
