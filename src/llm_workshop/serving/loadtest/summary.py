"""The figures of a load test, computed from its raw records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm_workshop.serving.loadtest.records import Load, Record


@dataclass(frozen=True)
class Percentiles:
    """Of a quantity in seconds; all None where nothing was measured."""

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    highest: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        if not values:
            return cls(None, None, None, None, None)
        p50, p95, p99 = (float(v) for v in np.percentile(values, (50, 95, 99)))
        return cls(float(np.mean(values)), p50, p95, p99, float(max(values)))


@dataclass(frozen=True)
class Summary:
    """What a load test found; times in seconds, rates per second of the whole test.

    ``steady_tokens_per_second`` counts only while every client was at work: at the end of a test fewer and fewer are
    left.  ``in_flight`` is the mean number of requests inside the server, the L of Little's law L = X R.
    ``fairness`` is Jain's index (Jain, Chiu and Hawe, 1984) of the clients' token rates: 1 if all got the same, 1 / N
    if one got everything.  ``own_cores``: processor cores that the clients themselves kept busy.
    """

    n_clients: int
    n_requests: int
    outcomes: dict[str, int]
    seconds: float
    tokens: int
    tokens_per_second: float
    steady_tokens_per_second: float
    requests_per_second: float
    first_token: Percentiles
    inter_token: Percentiles
    total: Percentiles
    queueing: Percentiles
    in_flight: float
    fairness: float | None
    own_cores: float


def summarise(load: Load) -> Summary:
    """Percentiles are over the answers that the model ended by itself; tokens and outcomes over all requests."""
    answered = [record for record in load.records if record.answered]
    tokens = sum(record.n_tokens for record in load.records)
    return Summary(
        n_clients=load.n_clients,
        n_requests=len(load.records),
        outcomes=dict(Counter(record.outcome for record in load.records)),
        seconds=load.seconds,
        tokens=tokens,
        tokens_per_second=tokens / load.seconds if load.seconds else 0.0,
        steady_tokens_per_second=steady_rate(load),
        requests_per_second=len(answered) / load.seconds if load.seconds else 0.0,
        first_token=Percentiles.of([r.first_token for r in answered if r.first_token is not None]),
        inter_token=Percentiles.of([gap for r in answered for gap in r.inter_token()]),
        total=Percentiles.of([r.seconds for r in answered]),
        queueing=Percentiles.of([r.queueing for r in answered]),
        in_flight=sum(r.seconds for r in answered) / load.seconds if load.seconds else 0.0,
        fairness=fairness(load.records),
        own_cores=load.cpu_seconds / load.seconds if load.seconds else 0.0,
    )


def steady_rate(load: Load) -> float:
    """Tokens a second from the last client's first token to the first client's last answer; else over everything."""
    own: dict[int, list[Record]] = {}
    for record in load.records:
        own.setdefault(record.client, []).append(record)
    firsts = [min((r.arrivals[0][0] for r in rows if r.arrivals), default=None) for rows in own.values()]
    if not own or len(own) < load.n_clients or None in firsts:
        return sum(r.n_tokens for r in load.records) / load.seconds if load.seconds else 0.0
    start, end = max(firsts), min(max(r.ended for r in rows) for rows in own.values())
    if end - start < 0.25 * load.seconds:  # too short a window says nothing
        start, end = 0.0, load.seconds
    counted = sum(count for r in load.records for at, count in r.arrivals if start < at <= end)
    return counted / (end - start) if end > start else 0.0


def fairness(records: Sequence[Record]) -> float | None:
    """Jain's index of tokens a second of each client while it asked; None without tokens."""
    tokens: dict[int, float] = {}
    seconds: dict[int, float] = {}
    for record in records:
        tokens[record.client] = tokens.get(record.client, 0.0) + record.n_tokens
        seconds[record.client] = seconds.get(record.client, 0.0) + record.seconds
    rates = [tokens[client] / seconds[client] for client in tokens if seconds[client] > 0]
    squares = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if squares else None
