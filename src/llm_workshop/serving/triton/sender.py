"""Sends responses in a thread of its own, so that the engine computes while they travel.

Each response holds the whole answer so far.  So a state that was overtaken before its turn need not be sent at all: a
slow wire gets fewer and larger responses, and no queue grows.  The last state of an answer is always sent.

Each response takes the processor from the engine, and so do those of all other answers: the more of them stream, the
less often each is told about.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable

from llm_workshop.serving.triton.job import Job


class Sender:
    """Calls ``send(job)`` for jobs that have changed, at most once in an interval for each, but at its end at once.

    ``send`` sends the state of then and tells whether that was the last one.  The interval is ``interval`` seconds, or
    ``per_stream`` for each answer that is being streamed where that is more.
    """

    def __init__(self, send: Callable[[Job], bool], interval: float, per_stream: float = 0.0):
        self.send, self.interval, self.per_stream = send, interval, per_stream
        self._changed: deque[Job] = deque()
        self._dirty: set[Job] = set()
        self._last: dict[Job, float] = {}
        self._wake, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="send", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def changed(self, job: Job) -> None:
        """To be called after every change, from any thread; costs next to nothing while the job waits for its turn."""
        done = job.state.done
        if not done and (not job.wishes.streaming or job in self._dirty):
            return
        with self._wake:
            self._dirty.add(job)
            self._changed.append(job)
            self._wake.notify()

    def close(self) -> None:
        """Send what is left, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        later: list[tuple[float, int, Job]] = []  # a heap: when each may be sent
        numbers = itertools.count()
        while True:
            with self._wake:
                while not self._changed:
                    wait = later[0][0] - time.monotonic() if later else None
                    if (self._closing and not later) or (wait is not None and wait <= 0):
                        break
                    self._wake.wait(wait)
                changed, self._changed = self._changed, deque()
                if self._closing and not changed and not later:
                    return
            now, interval = time.monotonic(), max(self.interval, self.per_stream * len(self._last))
            for job in changed:
                due = self._last.get(job, 0.0) + interval
                if job.state.done or due <= now:
                    self._send(job)
                else:
                    heapq.heappush(later, (due, next(numbers), job))
            while later and later[0][0] <= time.monotonic():
                job = heapq.heappop(later)[2]
                if job in self._dirty:  # else its end was sent in the meantime
                    self._send(job)

    def _send(self, job: Job) -> None:
        if job not in self._dirty:
            return
        # First, so that a change from now on is a new one.
        self._dirty.discard(job)
        self._last[job] = time.monotonic()
        if self.send(job):
            self._last.pop(job, None)
