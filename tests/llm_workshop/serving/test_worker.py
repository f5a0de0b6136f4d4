"""The thread that runs an engine: order, cancellation, errors, bounds."""

from __future__ import annotations

import threading
import time

import pytest

from llm_workshop.serving.engine import BusyError, Delta, Sampling
from llm_workshop.serving.worker import Timing, Worker


@pytest.fixture
def worker():
    worker = Worker(max_waiting=3)
    yield worker
    worker.close()


def slow(gate: threading.Event, log: list, name: str, count: int = 3):
    def start():
        log.append((name, threading.current_thread().name))
        try:
            for index in range(count):
                gate.wait(5)
                yield Delta(f"{name}{index}", 1)
            yield Delta(finish_reason="stop")
        finally:
            log.append((name, "closed"))

    return start


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def test_first_come_first_served_in_one_thread(worker):
    gate, log = threading.Event(), []
    first, second, third = (worker.submit(slow(gate, log, name)) for name in "abc")
    wait_until(lambda: first.started)
    assert [g.ahead for g in (first, second, third)] == [0, 1, 2]
    gate.set()
    assert ["".join(d.text for d in g) for g in (third, second, first)] == ["c0c1c2", "b0b1b2", "a0a1a2"]
    assert [name for name, what in log if what == "closed"] == ["a", "b", "c"]
    assert {what for _, what in log} == {"chat-engine", "closed"}


def test_an_engine_that_answers_several_at_once_gets_so_many_threads():
    worker = Worker(max_waiting=2, n_threads=3)
    gate, log = threading.Event(), []
    try:
        running = [worker.submit(slow(gate, log, name)) for name in "abc"]
        wait_until(lambda: all(g.started for g in running))
        waiting = [worker.submit(slow(gate, log, name)) for name in "de"]
        assert [g.ahead for g in [*running, *waiting]] == [0, 0, 0, 1, 2]
        with pytest.raises(BusyError):
            worker.submit(slow(gate, log, "f"))
        gate.set()
        assert ["".join(d.text for d in g) for g in [*running, *waiting]] == [f"{n}0{n}1{n}2" for n in "abcde"]
        assert len(worker._threads) == 3
    finally:
        worker.close()
    assert not any(thread.is_alive() for thread in worker._threads)
    with pytest.raises(ValueError, match="n_threads=0"):
        Worker(n_threads=0)


def test_a_full_line_says_busy(worker):
    gate, log = threading.Event(), []
    first = worker.submit(slow(gate, log, "a"))
    wait_until(lambda: first.started)
    others = [worker.submit(slow(gate, log, name)) for name in "bcd"]
    with pytest.raises(BusyError, match="3 requests are waiting"):
        worker.submit(slow(gate, log, "e"))
    others[1].cancel()
    assert worker.submit(slow(gate, log, "f")).ahead == 3, "who gives up makes room"
    gate.set()


def test_cancel_stops_after_the_token_in_progress_and_closes_the_engine(worker):
    gate, log = threading.Event(), []
    generation = worker.submit(slow(gate, log, "a", count=1000))
    wait_until(lambda: generation.started)
    generation.cancel()
    gate.set()
    assert len(list(generation)) <= 1
    assert generation.done and log[-1] == ("a", "closed")


def test_cancel_while_waiting_leaves_the_line_at_once(worker):
    gate, log = threading.Event(), []
    first, second, third = (worker.submit(slow(gate, log, name)) for name in "abc")
    wait_until(lambda: first.started)
    second.cancel()
    assert third.ahead == 1 and list(second) == []
    gate.set()
    assert len(list(third)) == 4
    assert "b" not in [name for name, _ in log]


def test_an_error_reaches_its_reader_and_no_one_else(worker):
    def broken():
        yield Delta("가", 1)
        raise ValueError("too bad")

    bad, good = worker.submit(broken), worker.submit(lambda: iter([Delta("나", 1)]))
    assert bad.next_delta(5).text == "가"
    with pytest.raises(ValueError, match="too bad"):
        list(bad)
    assert [d.text for d in good] == ["나"]


def test_close_ends_the_thread_and_refuses_more(worker):
    generation = worker.submit(lambda: (Delta("x", 1) for _ in iter(lambda: time.sleep(0.001), 1)))
    wait_until(lambda: generation.started)
    worker.close()
    assert worker._threads and not any(thread.is_alive() for thread in worker._threads)
    with pytest.raises(BusyError, match="shutting down"):
        worker.submit(lambda: iter([]))


def test_timing_leaves_the_prompt_out_of_the_decoding_speed():
    timing = Timing()
    timing.record(Delta("", 0), 0.1)
    assert timing.time_to_first_token is None and timing.tokens_per_second is None
    for seconds in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        timing.record(Delta("a", 1), seconds)
    assert timing.time_to_first_token == 0.5 and timing.n_tokens == 6
    assert timing.tokens_per_second == pytest.approx(10.0)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"temperature": -0.1}, "temperature=-0.1: use a number at least 0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0}, "top_p=0: use a number above 0"),
        ({"top_p": 1.5}, "at most 1"),
        ({"top_k": 0}, "top_k=0: use a whole number at least 1"),
        ({"top_k": 2.5}, "whole number"),
        ({"min_p": 2}, "min_p=2"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"seed": -1}, "seed=-1"),
        ({"temperature": "뜨겁게"}, "temperature='뜨겁게'"),
    ],
)
def test_sampling_names_what_is_wrong(values, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**values)
