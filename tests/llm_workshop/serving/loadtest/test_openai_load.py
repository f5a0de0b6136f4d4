"""Load over the OpenAI-compatible endpoint, by coroutines."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support.gateway import ScriptedEngine, serving

from llm_workshop.serving.engine import BusyError, EngineError, PromptTooLongError, Sampling
from llm_workshop.serving.gateway.limits import Limits
from llm_workshop.serving.loadtest import summarise
from llm_workshop.serving.loadtest.openai_load import body_of, openai_closed_loop, shared_out
from llm_workshop.serving.loadtest.records import Job

UNLIMITED = Limits(requests_per_minute=10**6)


def jobs(n, **more):
    return [Job(f"질문 {i}", Sampling(max_new_tokens=9, temperature=0.0), **more) for i in range(n)]


def ask(engine, work, n_clients=1, limits=UNLIMITED, **options):
    with serving(engine, limits=limits) as url:
        return openai_closed_loop(f"{url}/v1", "tiny", work, n_clients, after_busy=0, **options)


def test_every_answer_and_every_token_is_counted():
    engine = ScriptedEngine(["가나 ", "다라 ", "마바 ", "사아"], seconds=0.005)
    load = ask(engine, jobs(40), n_clients=20)
    assert len(load.records) == 40 and {r.outcome for r in load.records} == {"stop"}
    assert all(r.n_tokens == 4 and len(r.arrivals) == 4 and r.n_prompt_tokens == 7 and r.n_characters == 11 for r in load.records)
    assert all(r.sent < r.arrivals[0][0] < r.arrivals[-1][0] <= r.ended for r in load.records)
    summary = summarise(load)
    assert summary.n_clients == 20 and summary.outcomes == {"stop": 40}
    assert sorted(prompt for prompt, _ in engine.requests) == sorted(f"질문 {i}" for i in range(40))


def test_many_clients_are_one_thread():
    gate, before = threading.Event(), threading.active_count()
    engine, counts = ScriptedEngine(["가"], gate=gate), []

    def look():
        while len(engine.requests) < 50:
            pass
        counts.append(sum(thread.name == "load" for thread in threading.enumerate()))
        gate.set()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    load = ask(engine, jobs(50), n_clients=50)
    watcher.join(10)
    assert counts == [1] and len(load.records) == 50 and threading.active_count() < before + 50


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (BusyError("8 wait"), "busy", None),
        (PromptTooLongError(300, 256), "invalid", None),
        (EngineError("gone"), "busy", None),
        (RuntimeError("out of luck"), "error", "status 500"),
    ],
)
def test_refusals(error, outcome, words):
    (record,) = ask(ScriptedEngine(start_error=error), jobs(1)).records
    assert record.outcome == outcome and (words is None or words in record.error) and record.n_tokens == 0


def test_an_answer_that_breaks_off_is_an_error():
    (record,) = ask(ScriptedEngine(["가", "나", EngineError("gone")]), jobs(1)).records
    assert record.outcome == "error" and record.error and record.n_tokens == 2


def test_an_endpoint_without_usage_is_an_error():
    (record,) = ask(ScriptedEngine(["가"], n_prompt_tokens=None), jobs(1)).records
    assert record.outcome == "error" and "no usage" in record.error


def test_a_client_that_goes_away_ends_the_engines_work():
    engine = ScriptedEngine(["가 "], endless=True, seconds=0.005)
    (record,) = ask(engine, jobs(1, cancel_after=3)).records
    assert record.outcome == "cancelled" and record.n_tokens >= 3 and engine.closed.wait(5)


def test_nobody_there_and_no_client():
    (record,) = openai_closed_loop("http://127.0.0.1:1/v1", "tiny", jobs(1), 1, after_busy=0).records
    assert record.outcome == "error" and "ConnectError" in record.error
    with pytest.raises(ValueError, match="n_clients=0"):
        openai_closed_loop("http://127.0.0.1:1/v1", "tiny", jobs(1), 0)


def test_the_time_is_kept_and_a_running_loop_is_no_hindrance():
    engine = ScriptedEngine(["가"], seconds=0.05)

    async def in_a_notebook():
        return ask(engine, iter(jobs(1000)), n_clients=2, seconds=0.5)

    load = asyncio.run(in_a_notebook())
    assert 2 <= len(load.records) < 40 and 0.5 <= load.seconds < 5


def test_tokens_are_shared_out_by_characters():
    assert shared_out([(1.0, 1), (2.0, 3)], 8) == [(1.0, 2), (2.0, 6)]
    assert shared_out([(1.0, 1), (2.0, 9)], 2) == [(2.0, 2)]
    assert shared_out([], 0) == []


def test_only_what_the_job_wants_is_asked_for():
    body = body_of("m", Job("가", Sampling(max_new_tokens=3, temperature=0.5, top_k=5, stop=("끝",), seed=1)))
    assert (body["max_tokens"], body["temperature"], body["top_k"], body["stop"], body["seed"]) == (3, 0.5, 5, ["끝"], 1)
    assert "top_p" not in body and "min_p" not in body and body["stream"] is True
