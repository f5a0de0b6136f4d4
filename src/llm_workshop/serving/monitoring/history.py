"""The last minutes of a server, kept in memory: for when there is no Prometheus."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from llm_workshop.serving.engine import EngineError
from llm_workshop.serving.monitoring.metrics import Metrics, quantile, read_metrics
from llm_workshop.serving.monitoring.processes import MemoryReading, ServerProcesses
from llm_workshop.serving.triton.interface import (
    METRIC_FIRST_TOKEN,
    METRIC_PROMPT_TOKENS,
    METRIC_REQUESTS,
    METRIC_RUNNING,
    METRIC_STEPS,
    METRIC_TOKENS,
    METRIC_WAITING,
)


@dataclass(frozen=True)
class Point:
    """What happened in the interval that ends at ``time`` (seconds since 1970).

    Rates are per second.  ``batch_size`` is the mean of tokens a step, ``first_token`` the mean time to the first token
    (seconds), ``requests`` counts those that ended in the interval, by outcome; memory in bytes.  None: not known, or
    nothing happened.
    """

    time: float
    up: bool
    tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    requests: dict[str, float] = field(default_factory=dict)
    running: float | None = None
    waiting: float | None = None
    batch_size: float | None = None
    first_token: float | None = None
    first_token_p95: float | None = None
    server_bytes: int | None = None
    engine_bytes: int | None = None


def point_between(before: Metrics | None, after: Metrics, at: float, memory: MemoryReading | None = None) -> Point:
    """The point that two readings give; rates only from the second reading on."""
    gauges = {"running": after.total(METRIC_RUNNING), "waiting": after.total(METRIC_WAITING)}
    if memory is not None:
        gauges |= {"server_bytes": memory.server, "engine_bytes": memory.engines}
    if before is None or after.taken <= before.taken:
        return Point(at, True, **gauges)
    seconds = after.taken - before.taken
    tokens, steps = (_increase(before, after, name) for name in (METRIC_TOKENS, METRIC_STEPS))
    first_sum, first_count = (_increase(before, after, f"{METRIC_FIRST_TOKEN}_{part}") for part in ("sum", "count"))
    earlier = before.by(METRIC_REQUESTS, "outcome")
    requests = {o: _grown(earlier.get(o, 0.0), count) for o, count in after.by(METRIC_REQUESTS, "outcome").items()}
    return Point(
        at,
        True,
        tokens_per_second=tokens / seconds,
        prompt_tokens_per_second=_increase(before, after, METRIC_PROMPT_TOKENS) / seconds,
        requests={outcome: count for outcome, count in requests.items() if count},
        batch_size=tokens / steps if steps else None,
        first_token=first_sum / first_count if first_count else None,
        first_token_p95=quantile(before.buckets(METRIC_FIRST_TOKEN), after.buckets(METRIC_FIRST_TOKEN), 0.95),
        **gauges,
    )


class Monitor:
    """Reads the metrics of a server every few seconds in a thread of its own, between ``start`` and ``stop``.

    ``every`` seconds between readings, of which the last ``keep`` are remembered.  A server that does not answer, or
    that started anew, is a gap, not an error.
    """

    def __init__(self, metrics_address: str, *, every: float = 2.0, keep: int = 450):
        if not every > 0 or keep < 2:
            raise ValueError(f"every={every}, keep={keep}: use seconds above 0 and at least 2 points")
        self.address, self.every = metrics_address, every
        self._points: deque[Point] = deque(maxlen=keep)
        self._last: Metrics | None = None
        self._problem: str | None = None
        self._processes = ServerProcesses(int(metrics_address.rpartition(":")[2]))
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def look(self) -> Point:
        """Read the server once and remember what is found."""
        now = time.time()
        try:
            metrics, problem = read_metrics(self.address, seconds=max(1.0, self.every)), None
        except EngineError as error:
            metrics, problem = None, str(error)
        memory = self._processes.read() if metrics is not None and _is_here(self.address) else None
        point = Point(now, False) if metrics is None else point_between(self._last, metrics, now, memory)
        with self._lock:
            self._last, self._problem = metrics, problem
            self._points.append(point)
        return point

    def report(self, since: float = 0.0) -> dict[str, Any]:
        """As JSON for the page: the points later than ``since``, the totals since the server's start, and its models."""
        with self._lock:
            points, last, problem = list(self._points), self._last, self._problem
        report = {
            "address": self.address,
            "every": self.every,
            "problem": problem,
            "points": [asdict(point) for point in points if point.time > since],
            "models": [],
            "totals": {},
        }
        if last is not None:
            requests = last.by(METRIC_REQUESTS, "outcome")
            report["models"] = sorted(last.by(METRIC_TOKENS, "model"))
            report["totals"] = {"tokens": last.total(METRIC_TOKENS), "requests": requests}
        return report

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self.every)


def _increase(before: Metrics, after: Metrics, name: str) -> float:
    return _grown(before.total(name), after.total(name))


def _grown(before: float, after: float) -> float:
    """A counter that fell was started anew from 0, as Prometheus takes it."""
    return after - before if after >= before else after


def _is_here(address: str) -> bool:
    """Only the processes of this machine can be looked at."""
    return address.rpartition(":")[0] in ("127.0.0.1", "localhost", "::1", "[::1]")
