"""What the gateway counts, for Prometheus; a registry of its own, so that several apps can live in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Labels have few values: routes as they are declared, and models that are served."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.requests = self._make(Counter, "requests_total", "HTTP requests", ("route", "status"))
        self.seconds = self._make(Histogram, "request_seconds", "From a request's head to its end", ("route",), _SECONDS)
        self.first_token = self._make(
            Histogram, "time_to_first_token_seconds", "From a request's head to the first token", ("model",), _SECONDS
        )
        self.tokens = self._make(Counter, "tokens_total", "Tokens of prompts and answers", ("model", "kind"))
        self.answers = self._make(Counter, "answers_total", "Answers by how they ended", ("model", "outcome"))
        self.in_flight = self._make(Gauge, "answers_in_flight", "Answers in progress", ("model",))

    def _make(self, kind: type, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...] | None = None):
        more = {"buckets": buckets} if buckets else {}
        return kind(f"workshop_gateway_{name}", text, labels, registry=self.registry, **more)

    def response(self) -> Response:
        return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})
