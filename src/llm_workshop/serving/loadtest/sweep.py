"""The same load with more and more clients, accounted for each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_workshop.sections import LoadTestSettings
from llm_workshop.serving.engine import EngineError
from llm_workshop.serving.loadtest.accounting import Account, settled_metrics
from llm_workshop.serving.loadtest.drive import closed_loop
from llm_workshop.serving.loadtest.records import Load, write_records
from llm_workshop.serving.loadtest.served import Served
from llm_workshop.serving.loadtest.summary import Summary, summarise
from llm_workshop.serving.loadtest.watch import Watch
from llm_workshop.serving.loadtest.workload import characters_per_token, uniform_jobs
from llm_workshop.serving.monitoring.metrics import Metrics
from llm_workshop.serving.triton.interface import METRIC_REQUESTS, METRIC_STEPS


@dataclass(frozen=True)
class Measured:
    """One number of clients: figures of the clients, and what the server's own metrics say of the same load.

    ``in_system`` is the mean number of requests inside the server; ``steps`` its decoding steps (0 where an engine
    counts none).
    """

    load: Load
    summary: Summary
    account: Account
    in_system: float | None
    steps: int

    @property
    def batch_size(self) -> float | None:
        """Mean tokens of a step."""
        return self.account.server_tokens / self.steps if self.steps else None

    @property
    def step_seconds(self) -> float | None:
        return self.load.seconds / self.steps if self.steps else None


def measure(served: Served, loadtest: LoadTestSettings, n_clients: int, *, ratio: float, seed: int = 0) -> Measured:
    """A closed loop of ``n_clients``; at least four requests for each client, so that the beginning and the end, where
    not all are at work, weigh little.  ``ratio``: characters a token.  A short round before warms everything up."""
    n = max(loadtest.requests, 4 * n_clients)
    sizes = {"prompt_tokens": loadtest.prompt_tokens, "characters_per_token": ratio}
    counted = _requests(settled_metrics(served.metrics_address))
    closed_loop(served.connect, uniform_jobs(n_clients, **sizes, max_new_tokens=4, seed=seed + 10_000), n_clients)
    before = settled_metrics(served.metrics_address, requests=counted + n_clients)
    with Watch(served.metrics_address, every=0.1) as watch:
        load = closed_loop(served.connect, uniform_jobs(n, **sizes, max_new_tokens=loadtest.max_new_tokens, seed=seed), n_clients)
    after = settled_metrics(served.metrics_address, requests=_requests(before) + n)
    account = Account.of(load.records, before, after)
    if faults := account.differences() + sorted({r.error for r in load.records if r.error}):
        raise EngineError(f"the load test with {n_clients} clients does not add up: {'; '.join(faults)}")
    steps = round(after.total(METRIC_STEPS) - before.total(METRIC_STEPS))
    return Measured(load, summarise(load), account, watch.in_system, steps)


def _requests(metrics: Metrics) -> float:
    return sum(metrics.by(METRIC_REQUESTS, "outcome").values())


def sweep(served: Served, loadtest: LoadTestSettings, clients: Sequence[int], rows: Path | None = None, seed: int = 0) -> list[Measured]:
    """``measure`` for each number of clients; the raw records go to ``rows`` (a folder), one file for each."""
    connection = served.connect()
    try:
        ratio = characters_per_token(connection)
    finally:
        connection.close()
    found = []
    for n_clients in clients:
        found.append(measure(served, loadtest, n_clients, ratio=ratio, seed=seed))
        if rows is not None:
            write_records(rows / f"{n_clients}-clients.jsonl", found[-1].load.records)
    return found


def table_row(name: str, measured: Measured) -> dict[str, Any]:
    """A row for people, in Korean: times in milliseconds."""
    s = measured.summary

    def ms(seconds: float | None) -> float | None:
        return None if seconds is None else round(1000 * seconds, 1)

    return {
        "엔진": name, "클라이언트": s.n_clients, "토큰/초": round(s.tokens_per_second), "요청/초": round(s.requests_per_second, 1),
        "TTFT p50 (ms)": ms(s.first_token.p50), "TTFT p95": ms(s.first_token.p95), "ITL p50 (ms)": ms(s.inter_token.p50),
        "ITL p95": ms(s.inter_token.p95), "전체 p95 (ms)": ms(s.total.p95), "공평함": None if s.fairness is None else round(s.fairness, 3),
        "토큰/스텝": None if measured.batch_size is None else round(measured.batch_size, 1),
    }  # fmt: skip
