"""Clients that ask a served model at once.

Two ways to load a server (Schroeder, Wierman and Harchol-Balter, "Open Versus Closed", 2006).  In a *closed* loop N
clients each send the next request when the last is answered: the server sets the pace.  In an *open* loop requests
arrive by themselves, here as a Poisson process: a slow server gets a longer queue, as with real visitors, and a
request's waiting is counted from when it was due, not from when a worker got round to it.

A client is a thread that mostly waits for the network; what all of them take of the processor is measured.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from llm_workshop.serving.engine import BusyError, Delta, PromptTooLongError, Sampling
from llm_workshop.serving.loadtest.records import Job, Load, Record


class Connection(Protocol):
    """A client of the served model, as ``llm_workshop.serving.client.TritonClient``."""

    def generate(self, text: str, sampling: Sampling) -> Iterator[Delta]: ...

    def close(self) -> None: ...


Connect = Callable[[], Connection]


class Shared:
    """One connection for many clients at once, where it allows that: ``closed_loop(Shared(client), ...)``.  It stays open."""

    def __init__(self, connection: Connection):
        self.generate = connection.generate

    def __call__(self) -> Shared:
        return self

    def close(self) -> None: ...


def closed_loop(
    connect: Connect,
    jobs: Sequence[Job] | Iterator[Job],
    n_clients: int,
    *,
    seconds: float | None = None,
    ramp: float = 0.0,
    after_busy: float = 0.2,
) -> Load:
    """Work ``jobs`` off with ``n_clients`` clients, each with a connection of its own and one request at a time.

    ``seconds``: take no new job after so long.  ``ramp``: the clients begin one by one over so many seconds, not all at
    once.  ``after_busy``: how long a client rests that was told "busy", or met an error.
    """
    if n_clients < 1:
        raise ValueError(f"n_clients={n_clients}: at least one client must ask")
    source, lock = iter(jobs), threading.Lock()

    def next_job(now: float) -> Job | None:
        with lock:
            return None if seconds is not None and now >= seconds else next(source, None)

    def work(client: int, connection: Connection, clock: Callable[[], float], records: list[Record]) -> None:
        time.sleep(ramp * client / n_clients)
        while (job := next_job(clock())) is not None:
            now = clock()
            records.append(ask(connection, job, Record(client, job.kind, now, now), clock))
            if records[-1].outcome in ("busy", "error"):  # a server that is gone is not hammered either
                time.sleep(after_busy)

    return _run(connect, work, n_clients)


def open_loop(
    connect: Connect, jobs: Sequence[Job], rate: float, *, max_clients: int = 64, seed: int = 0
) -> Load:
    """Send ``jobs`` as a Poisson process of ``rate`` requests a second, over at most ``max_clients`` connections."""
    if not rate > 0:
        raise ValueError(f"rate={rate}: use requests a second above 0")
    random_source, arrivals, now = random.Random(seed), [], 0.0
    for job in jobs:
        now += random_source.expovariate(rate)
        arrivals.append((now, job))
    waiting: queue.SimpleQueue[tuple[float, Job]] = queue.SimpleQueue()
    for arrival in arrivals:
        waiting.put(arrival)

    def work(client: int, connection: Connection, clock: Callable[[], float], records: list[Record]) -> None:
        while True:
            try:
                due, job = waiting.get_nowait()
            except queue.Empty:
                return
            time.sleep(max(0.0, due - clock()))
            records.append(ask(connection, job, Record(client, job.kind, due, clock()), clock))

    return _run(connect, work, min(max_clients, max(1, len(arrivals))))


def ask(connection: Connection, job: Job, record: Record, clock: Callable[[], float]) -> Record:
    """Send one request and fill its record; no error of the server escapes."""
    record.max_new_tokens = job.sampling.max_new_tokens
    pieces: Iterator[Delta] | None = None
    try:
        pieces = connection.generate(job.prompt, job.sampling)
        for piece in pieces:
            if piece.n_tokens:
                record.arrivals.append((clock(), piece.n_tokens))
            record.n_characters += len(piece.text)
            record.n_prompt_tokens = piece.n_prompt_tokens or record.n_prompt_tokens
            if piece.finish_reason is not None:
                record.outcome = piece.finish_reason
            if "\N{REPLACEMENT CHARACTER}" in piece.text:
                record.outcome, record.error = "error", "the answer has a replacement character"
            elif job.cancel_after is not None and record.n_tokens >= job.cancel_after and piece.finish_reason is None:
                record.outcome = "cancelled"
            if record.outcome == "cancelled" or record.error:
                break
            if job.pause:
                time.sleep(job.pause)
        if record.outcome == "error" and record.error is None:
            record.error = "the answer ended without a reason"
    except BusyError:
        record.outcome = "busy"
    except PromptTooLongError:
        record.outcome = "invalid"
    except Exception as error:  # a load test reports what fails, whatever it is
        record.outcome, record.error = "error", f"{type(error).__name__}: {error}"
    finally:
        if pieces is not None and hasattr(pieces, "close"):
            pieces.close()
        record.ended = clock()
    return record


def _run(connect: Connect, work: Callable[..., None], n_clients: int) -> Load:
    connections, origin = [], [0.0]
    try:
        for _ in range(n_clients):
            connections.append(connect())
        records: list[list[Record]] = [[] for _ in connections]
        failures: list[BaseException] = []

        def clock() -> float:
            return time.perf_counter() - origin[0]

        def start_the_clock() -> None:
            origin[0] = time.perf_counter()

        barrier = threading.Barrier(n_clients + 1, action=start_the_clock)

        def client(number: int) -> None:
            barrier.wait()
            try:
                work(number, connections[number], clock, records[number])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(n_clients)]
        for thread in threads:
            thread.start()
        barrier.wait()
        cpu = time.process_time()
        for thread in threads:
            thread.join()
        seconds, cpu = clock(), time.process_time() - cpu
        if failures:
            raise failures[0]
    finally:
        for connection in connections:
            connection.close()
    ordered = sorted((record for own in records for record in own), key=lambda record: (record.due, record.client))
    return Load(ordered, n_clients, seconds, cpu)
