"""A thread that looks at a server again and again while it is under load: its gauges and its memory."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np

from llm_workshop.serving.engine import EngineError
from llm_workshop.serving.monitoring.metrics import read_metrics
from llm_workshop.serving.monitoring.processes import MemoryReading, ServerProcesses
from llm_workshop.serving.triton.interface import METRIC_RUNNING, METRIC_STEPS, METRIC_TOKENS, METRIC_WAITING


@dataclass(frozen=True)
class Look:
    """The server ``seconds`` after the watch began; ``memory`` None where its processes cannot be seen."""

    seconds: float
    running: float
    waiting: float
    tokens: float
    steps: float
    memory: MemoryReading | None


class Watch:
    """``with Watch("127.0.0.1:8002") as watch: ...``, then ``watch.looks``.

    A reading that fails is counted in ``failures`` and left out.
    """

    def __init__(self, metrics_address: str, every: float = 0.25):
        self.address, self.every = metrics_address, every
        self.looks: list[Look] = []
        self.failures = 0
        self._processes = ServerProcesses(int(metrics_address.rpartition(":")[2]))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._start = 0.0

    def __enter__(self) -> Watch:
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def in_system(self) -> float | None:
        """Mean number of requests inside the server, running or waiting: the L of Little's law, seen from the server."""
        return float(np.mean([look.running + look.waiting for look in self.looks])) if self.looks else None

    @property
    def batch_size(self) -> float | None:
        """Mean tokens of a step between the first and the last look; None where no step was made."""
        if len(self.looks) < 2 or self.looks[-1].steps <= self.looks[0].steps:
            return None
        first, last = self.looks[0], self.looks[-1]
        return (last.tokens - first.tokens) / (last.steps - first.steps)

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            try:
                metrics = read_metrics(self.address)
            except EngineError:
                self.failures += 1
                continue
            names = (METRIC_RUNNING, METRIC_WAITING, METRIC_TOKENS, METRIC_STEPS)
            self.looks.append(Look(time.monotonic() - self._start, *(metrics.total(n) for n in names), self._processes.read()))
