"""Prometheus metrics of an instance, shown by Triton beside its own.

Every change of a metric is a message to the server's process, so they are counted here and published now and then.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from llm_workshop.serving.triton import interface
from llm_workshop.serving.triton.job import Job

OUTCOMES = ("stop", "length", "cancelled", "busy", "invalid", "error")
FIRST_TOKEN_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]  # seconds


class Metrics:
    """Counts of one instance; ``pb_utils`` offers MetricFamily."""

    def __init__(self, pb_utils: Any, model: str, instance: str):
        self._pb, self._labels = pb_utils, {"model": model, "instance": instance}
        self._lock = threading.Lock()
        self._live: set[Job] = set()
        self._ended_tokens = self._prompt_tokens = 0
        self._outcomes: Counter[str] = Counter()
        self._first_token_seconds: list[float] = []
        self._families: list[Any] = []  # a metric is dropped with its family
        self._published: dict[str, float] = {}
        kind = pb_utils.MetricFamily
        self._tokens = self._metric(interface.METRIC_TOKENS, "Tokens generated", kind.COUNTER)
        self._prompt = self._metric(interface.METRIC_PROMPT_TOKENS, "Tokens of prompts taken in", kind.COUNTER)
        self._steps = self._metric(interface.METRIC_STEPS, "Decoding steps, each of all running requests", kind.COUNTER)
        self._waiting = self._metric(interface.METRIC_WAITING, "Requests that wait for a row", kind.GAUGE)
        self._running = self._metric(interface.METRIC_RUNNING, "Requests being answered", kind.GAUGE)
        family = self._family(interface.METRIC_REQUESTS, "Requests by their outcome", kind.COUNTER)
        self._requests = {name: family.Metric(labels=self._labels | {"outcome": name}) for name in OUTCOMES}
        self._first_token = self._seconds(interface.METRIC_FIRST_TOKEN, "From a request's arrival to its first token")

    def refused(self, outcome: str) -> None:
        """A request was not taken in: "busy", "invalid" or "error"."""
        with self._lock:
            self._outcomes[outcome] += 1

    def accepted(self, job: Job) -> None:
        """To be called before the engine gets it, for it may end at once."""
        with self._lock:
            self._live.add(job)

    def withdrawn(self, job: Job) -> None:
        """The engine has refused it after all."""
        with self._lock:
            self._live.discard(job)

    def ended(self, job: Job) -> None:
        """Its last response has been sent; ``accepted`` came before."""
        with self._lock:
            self._live.discard(job)
            self._ended_tokens += job.state.n_tokens
            self._prompt_tokens += job.n_prompt_tokens
            self._outcomes["error" if job.state.error is not None else job.state.finish_reason] += 1
            if job.first_token_ns:
                self._first_token_seconds.append((job.first_token_ns - job.arrived_ns) / 1e9)

    def publish(self, counts: dict[str, int]) -> None:
        """Tell the server what has changed; ``counts`` are the engine's."""
        with self._lock:
            outcomes, seconds = dict(self._outcomes), self._first_token_seconds
            self._first_token_seconds = []
            tokens = self._ended_tokens + sum(job.state.n_tokens for job in self._live)
            prompt_tokens = self._prompt_tokens + sum(job.n_prompt_tokens for job in self._live)
        self._count(self._tokens, "tokens", tokens)
        self._count(self._prompt, "prompt", prompt_tokens)
        self._count(self._steps, "steps", counts["steps"])
        for name, number in outcomes.items():
            self._count(self._requests[name], f"outcome {name}", number)
        for name, gauge in (("waiting", self._waiting), ("running", self._running)):
            if self._published.get(name) != counts[name]:
                gauge.set(counts[name])
                self._published[name] = counts[name]
        for value in seconds:
            self._first_token(value)

    def _count(self, metric: Any, name: str, total: float) -> None:
        grown = total - self._published.get(name, 0)
        if grown > 0:
            metric.increment(grown)
            self._published[name] = total

    def _family(self, name: str, description: str, kind: Any) -> Any:
        self._families.append(self._pb.MetricFamily(name=name, description=description, kind=kind))
        return self._families[-1]

    def _metric(self, name: str, description: str, kind: Any) -> Any:
        return self._family(name, description, kind).Metric(labels=self._labels)

    def _seconds(self, name: str, description: str) -> Any:
        """A function that takes one measurement: into a histogram, or, in a server without them, into _sum and _count."""
        kind = self._pb.MetricFamily
        if hasattr(kind, "HISTOGRAM"):
            family = self._family(name, description, kind.HISTOGRAM)
            return family.Metric(labels=self._labels, buckets=FIRST_TOKEN_BUCKETS).observe
        total = self._metric(f"{name}_sum", description, kind.COUNTER)
        number = self._metric(f"{name}_count", description, kind.COUNTER)
        return lambda value: (total.increment(value), number.increment(1))
