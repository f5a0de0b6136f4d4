"""The threads that run an engine: requests wait their turn, stream out, and can be cancelled.

A web page hands each step of a generator to any thread of a pool, but torch's inference mode and OpenMP
pool belong to a thread; so a model of this process always runs in one thread.  An engine of another
process that answers several at once gets as many threads as it says.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llm_workshop.serving.engine import BusyError, Delta


@dataclass
class Timing:
    """Measured by the worker: seconds from the start of the generation, tokens made."""

    time_to_first_token: float | None = None
    seconds: float = 0.0
    n_tokens: int = 0
    first_tokens: int = 1

    @property
    def tokens_per_second(self) -> float | None:
        """Decoding speed: tokens after the first over the time they took."""
        if self.time_to_first_token is None or self.n_tokens < 2 or self.seconds <= self.time_to_first_token:
            return None
        return (self.n_tokens - self.first_tokens) / (self.seconds - self.time_to_first_token)

    def record(self, delta: Delta, seconds: float) -> None:
        if self.time_to_first_token is None and delta.n_tokens:
            self.time_to_first_token, self.first_tokens = seconds, delta.n_tokens
        self.n_tokens += delta.n_tokens
        self.seconds = seconds


class Generation:
    """A request and its stream.  ``next_delta`` waits; after the end ``done`` is true."""

    def __init__(self, start: Callable[[], Iterator[Delta]], worker: Worker):
        self._start, self._worker = start, worker
        self._out: queue.SimpleQueue[Delta | BaseException | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self.timing = Timing()
        self.started = self.done = False

    @property
    def ahead(self) -> int:
        """How many requests are served before this one."""
        return 0 if self.started else self._worker.position(self)

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop after the token in progress (or before the turn); what was made so far can still be read."""
        self._cancelled.set()
        if self._worker.forget(self):
            self._out.put(None)

    def next_delta(self, timeout: float) -> Delta | None:
        """The next piece; None if none came within ``timeout`` seconds or the stream has ended.

        Raises what the engine raised.
        """
        if self.done:
            return None
        try:
            item = self._out.get(timeout=timeout) if timeout > 0 else self._out.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, Delta):
            return item
        self.done = True
        if item is not None:
            raise item
        return None

    def __iter__(self) -> Iterator[Delta]:
        while not self.done:
            if (delta := self.next_delta(timeout=0.5)) is not None:
                yield delta

    def _run(self) -> None:
        """In the worker's thread: pump the engine's pieces out until the end or a cancellation."""
        self.started = True
        begin = time.perf_counter()
        try:
            if not self.cancelled:
                self._pump(self._start(), begin)
            self._out.put(None)
        except BaseException as error:  # handed to the reader, who can tell its user
            self._out.put(error)

    def _pump(self, deltas: Iterator[Delta], begin: float) -> None:
        try:
            for delta in deltas:
                self.timing.record(delta, time.perf_counter() - begin)
                self._out.put(delta)
                if self.cancelled:
                    break
        finally:
            # A generator would otherwise hold the model until it is collected.
            if close := getattr(deltas, "close", None):
                close()


class Worker:
    """Runs generations first come, first served, ``n_threads`` at a time; at most ``max_waiting`` wait,
    then BusyError."""

    def __init__(self, max_waiting: int = 16, n_threads: int = 1):
        if n_threads < 1:
            raise ValueError(f"n_threads={n_threads}: use at least 1")
        self.max_waiting, self.n_threads = max_waiting, n_threads
        self._waiting: deque[Generation] = deque()
        self._running: set[Generation] = set()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, start: Callable[[], Iterator[Delta]]) -> Generation:
        """Queue a generation; ``start`` is called in the worker's thread when its turn has come."""
        generation = Generation(start, self)
        with self._changed:
            if self._closed:
                raise BusyError("the server is shutting down")
            if len(self._waiting) + len(self._running) >= self.max_waiting + self.n_threads:
                raise BusyError(f"{self.max_waiting} requests are waiting already: try again in a moment")
            self._waiting.append(generation)
            # A thread is made when it is needed for the first time.
            if len(self._threads) < min(self.n_threads, len(self._running) + len(self._waiting)):
                self._threads.append(threading.Thread(target=self._loop, name="chat-engine", daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()
        return generation

    def position(self, generation: Generation) -> int:
        """How many others must end before this one begins."""
        with self._changed:
            if generation not in self._waiting:
                return 0
            return max(0, self._waiting.index(generation) + 1 + len(self._running) - self.n_threads)

    def forget(self, generation: Generation) -> bool:
        """Take a generation out of the waiting line; False if it is not in it (any more)."""
        with self._changed:
            if generation not in self._waiting:
                return False
            self._waiting.remove(generation)
            return True

    def close(self) -> None:
        """Cancel everything and let the threads end."""
        with self._changed:
            self._closed = True
            unfinished = [*self._waiting, *self._running]
            self._changed.notify_all()
        for generation in unfinished:
            generation.cancel()
        end = time.monotonic() + 5
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))

    def _loop(self) -> None:
        generation = None
        while True:
            with self._changed:
                self._running.discard(generation)
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                generation = self._waiting.popleft()
                self._running.add(generation)
            generation._run()
