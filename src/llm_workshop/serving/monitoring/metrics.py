"""One reading of a Prometheus endpoint, such as Triton's ``/metrics``."""

from __future__ import annotations

import http.client
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from llm_workshop.serving.engine import EngineError


@dataclass(frozen=True)
class Metrics:
    """The values at ``taken`` (seconds of ``time.monotonic``): (name, labels, value) of every sample."""

    taken: float
    samples: tuple[tuple[str, dict[str, str], float], ...]

    def names(self) -> set[str]:
        return {name for name, _, _ in self.samples}

    def total(self, name: str, **labels: str) -> float:
        """Sum over the samples with these labels; 0 where there is none, as Prometheus's counters begin late."""
        return sum(value for _, _, value in self._chosen(name, labels))

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Sums over the samples of each value of ``label``."""
        sums: dict[str, float] = {}
        for _, own, value in self._chosen(name, labels):
            sums[own.get(label, "")] = sums.get(own.get(label, ""), 0.0) + value
        return sums

    def buckets(self, name: str) -> list[tuple[float, float]]:
        """(upper bound, count up to it) of a histogram, in order; empty where the server has none."""
        return sorted((float(bound), count) for bound, count in self.by(f"{name}_bucket", "le").items())

    def _chosen(self, name: str, labels: dict[str, str]) -> Iterable[tuple[str, dict[str, str], float]]:
        return (s for s in self.samples if s[0] == name and all(s[1].get(key) == value for key, value in labels.items()))


def parse_metrics(text: str) -> Metrics:
    """Read the Prometheus text format; ValueError if it is something else."""
    samples = []
    for family in text_string_to_metric_families(text):
        # The parser adds _total to the counters that lack it, as Triton's own do: given back here.
        written = f"\n{family.name}_total" in f"\n{text}"
        for sample in family.samples:
            name = sample.name
            if family.type == "counter" and name.endswith("_total") and not written:
                name = name.removesuffix("_total")
            samples.append((name, dict(sample.labels), float(sample.value)))
    return Metrics(time.monotonic(), tuple(samples))


def read_metrics(address: str, seconds: float = 5) -> Metrics:
    """The metrics of ``host:port``; EngineError, with the cure, if they cannot be read."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"metrics address {address!r}: use host:port, such as 127.0.0.1:8002")
    connection = http.client.HTTPConnection(host, int(port), timeout=seconds)  # asks no proxy
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode("utf-8")
        if answer.status != 200:
            raise ValueError(f"HTTP status {answer.status}")
        return parse_metrics(text)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EngineError(f"no metrics at http://{address}/metrics ({error}): is the Triton server running?") from None
    finally:
        connection.close()


def quantile(before: list[tuple[float, float]], after: list[tuple[float, float]], q: float) -> float | None:
    """The ``q`` quantile of what a histogram counted between two readings, as PromQL's histogram_quantile draws it:
    linear inside a bucket, the last finite bound for what lies above it.  None if nothing was counted."""
    earlier = dict(before)
    counts = [(bound, count - earlier.get(bound, 0.0)) for bound, count in after]
    if not counts or counts[-1][1] <= 0:
        return None
    rank, low, below = q * counts[-1][1], 0.0, 0.0
    for bound, count in counts:
        if count >= rank and count > below:
            return low if math.isinf(bound) else low + (bound - low) * max(0.0, rank - below) / (count - below)
        low, below = (low if math.isinf(bound) else bound), count
    return low
