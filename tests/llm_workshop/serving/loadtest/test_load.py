"""Load tests against a server made up for it: loops, figures, accounts, and what makes a soak fail."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_server import FakeServer

from llm_workshop.serving.engine import Delta, EngineError, Sampling
from llm_workshop.serving.loadtest import (
    Account,
    Job,
    Load,
    Percentiles,
    Record,
    accounting,
    closed_loop,
    open_loop,
    read_records,
    settled_metrics,
    soak,
    summarise,
    uniform_jobs,
    write_records,
)
from llm_workshop.serving.loadtest.drive import ask
from llm_workshop.serving.loadtest.soak import Flatness
from llm_workshop.serving.loadtest.summary import fairness, steady_rate
from llm_workshop.serving.loadtest.watch import Watch
from llm_workshop.serving.loadtest.workload import characters_per_token, korean_text, mixed_jobs
from llm_workshop.serving.monitoring import read_metrics
from llm_workshop.serving.triton.interface import METRIC_REQUESTS, METRIC_TOKENS


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server


def record(client=0, sent=0.0, arrivals=(), ended=1.0, outcome="length", due=None, **more):
    return Record(client, "plain", sent if due is None else due, sent, ended, list(arrivals), outcome, **more)


def test_a_closed_loop_answers_every_job_once_and_accounts_for_every_token(server):
    jobs = uniform_jobs(20, prompt_tokens=10, max_new_tokens=7)
    before = settled_metrics(server.metrics_address)
    load = closed_loop(server.connect, jobs, 4)
    account = Account.of(load.records, before, settled_metrics(server.metrics_address))
    assert account.differences() == [] and account.server_tokens == account.client_tokens == 140
    summary = summarise(load)
    assert summary.outcomes == {"length": 20} and summary.n_clients == 4 and server.connections == 0
    assert {r.client for r in load.records} == {0, 1, 2, 3} and all(r.n_prompt_tokens == 10 for r in load.records)
    assert summary.tokens_per_second == pytest.approx(140 / load.seconds)
    assert 0 < summary.first_token.p50 <= summary.first_token.p95 <= summary.first_token.highest <= summary.total.highest
    assert summary.inter_token.p50 >= 0.001 and 0 < summary.own_cores < 4


def test_more_clients_than_rows_wait_for_their_first_token():
    with FakeServer(max_rows=1, seconds_per_token=0.005) as server:
        jobs = uniform_jobs(12, prompt_tokens=5, max_new_tokens=6)
        alone, crowd = (summarise(closed_loop(server.connect, jobs, n)) for n in (1, 4))
    assert crowd.first_token.p50 > 2 * alone.first_token.p50
    assert crowd.fairness > 0.8 and crowd.in_flight > 2 > alone.in_flight


def test_an_open_loop_counts_waiting_from_when_a_request_was_due():
    with FakeServer(seconds_per_token=0.01) as server:
        load = open_loop(server.connect, uniform_jobs(10, prompt_tokens=5, max_new_tokens=5), rate=1000, max_clients=1)
    summary = summarise(load)
    assert summary.outcomes == {"length": 10}
    assert summary.queueing.highest > 0.2, "one worker for ten requests at once: the last waited for the nine before it"
    assert summary.first_token.highest > summary.queueing.highest
    dues = [r.due for r in load.records]
    assert dues == sorted(dues) and len(set(dues)) == 10


def test_poisson_arrivals_have_the_wished_rate_and_repeat_with_the_seed():
    with FakeServer(max_rows=100, max_waiting=100, seconds_per_token=0) as server:
        jobs = uniform_jobs(400, prompt_tokens=2, max_new_tokens=1)
        first, again = (open_loop(server.connect, jobs, rate=1000, max_clients=8, seed=5) for _ in range(2))
    assert [r.due for r in first.records] == pytest.approx([r.due for r in again.records])
    assert first.records[-1].due == pytest.approx(0.4, rel=0.25)
    with pytest.raises(ValueError, match="rate=0"):
        open_loop(server.connect, jobs, rate=0)


def test_busy_invalid_cancelled_and_broken_requests_are_told_apart():
    with FakeServer(max_rows=1, max_waiting=0, seconds_per_token=0.01, context_length=50) as server:
        plain = Sampling(max_new_tokens=10)
        jobs = [Job("가", plain), Job("나", plain), Job("다" * 60, plain), Job("라", plain, "cancel", cancel_after=3)]
        before = settled_metrics(server.metrics_address)
        load = closed_loop(server.connect, jobs, 2, after_busy=0.15)
        after = settled_metrics(server.metrics_address)
    outcomes = sorted(r.outcome for r in load.records)
    assert outcomes == ["busy", "cancelled", "invalid", "length"]
    cancelled = next(r for r in load.records if r.outcome == "cancelled")
    assert cancelled.n_tokens == 3
    assert Account.of(load.records, before, after).differences() == []


def test_an_error_is_recorded_with_its_words():
    with FakeServer(breaks=2) as server:
        load = closed_loop(server.connect, uniform_jobs(4, prompt_tokens=3, max_new_tokens=2), 1)
    assert [r.outcome for r in load.records] == ["length", "error", "length", "error"]
    assert load.records[1].error == "OSError: the engine fell over"


@pytest.mark.parametrize(("pieces", "words"), [
    ([Delta("가", 1)], "ended without a reason"),
    ([Delta("가\N{REPLACEMENT CHARACTER}", 1, "stop")], "replacement character"),
    ([], "ended without a reason"),
])  # fmt: skip
def test_answers_that_are_not_whole_are_errors(pieces, words):
    class Connection:
        def generate(self, text, sampling):
            yield from pieces

    got = ask(Connection(), Job("x", Sampling()), record(outcome="error"), time.perf_counter)
    assert got.outcome == "error" and words in got.error


def test_the_clients_must_be_at_least_one(server):
    with pytest.raises(ValueError, match="n_clients=0"):
        closed_loop(server.connect, [], 0)


def test_a_connection_that_cannot_be_made_closes_the_others(server):
    made = itertools.count()

    def connect():
        if next(made) == 2:
            raise EngineError("no server")
        return server.connect()

    with pytest.raises(EngineError, match="no server"):
        closed_loop(connect, uniform_jobs(3, prompt_tokens=2, max_new_tokens=1), 3)
    assert server.connections == 0


def test_lost_tokens_do_not_add_up():
    with FakeServer(loses=1) as server:
        before = settled_metrics(server.metrics_address)
        load = closed_loop(server.connect, uniform_jobs(3, prompt_tokens=5, max_new_tokens=4), 1)
        account = Account.of(load.records, before, settled_metrics(server.metrics_address))
    assert account.differences() == ["토큰 수: 클라이언트가 받은 것 12개, 서버가 센 것 15개 (같아야 함)"]


def test_requests_that_the_server_does_not_know_do_not_add_up(server):
    before = settled_metrics(server.metrics_address)
    load = closed_loop(server.connect, uniform_jobs(2, prompt_tokens=5, max_new_tokens=4), 1)
    after = settled_metrics(server.metrics_address)
    account = Account.of([*load.records, record(outcome="busy")], before, after)
    assert [text.split(":")[0] for text in account.differences()] == ["요청 수", "결과 busy"]
    account = Account.of([*load.records, record(outcome="error", error="x")], before, after)
    assert account.differences(), "an error of which the server knows nothing"


def test_an_answer_that_ended_before_its_reader_left_is_no_difference():
    account = Account(10, 12, 5, {"cancelled": 2, "length": 1}, {"cancelled": 1, "length": 2})
    assert account.differences() == []
    assert Account(10, 12, 5, {"cancelled": 1, "length": 2}, {"cancelled": 2, "length": 1}).differences()


def test_a_server_that_never_rests_is_reported(server):
    server.inside = 1
    with pytest.raises(EngineError, match="0 requests running and 1 waiting"):
        settled_metrics(server.metrics_address, seconds=0.5)


def test_counts_that_come_late_are_waited_for(server, monkeypatch):
    """A busy machine: the server tells of the last request only two seconds after it."""
    before = settled_metrics(server.metrics_address)
    closed_loop(server.connect, uniform_jobs(3, prompt_tokens=5, max_new_tokens=4), 1)
    late = time.monotonic() + 2
    monkeypatch.setattr(accounting, "read_metrics", lambda address: before if time.monotonic() < late else read_metrics(address))
    assert settled_metrics(server.metrics_address).by(METRIC_REQUESTS, "outcome") == before.by(METRIC_REQUESTS, "outcome")
    told = settled_metrics(server.metrics_address, requests=sum(before.by(METRIC_REQUESTS, "outcome").values()) + 3)
    assert told.total(METRIC_TOKENS) == before.total(METRIC_TOKENS) + 12
    assert settled_metrics(server.metrics_address, seconds=3, requests=1e9), "one that never comes is not waited for forever"


def test_percentiles_and_gaps_by_hand():
    row = record(sent=1.0, due=0.5, arrivals=[(1.5, 1), (1.7, 1), (2.1, 2)], ended=2.2)
    assert row.first_token == 1.0 and row.n_tokens == 4 and row.queueing == 0.5
    assert row.inter_token() == pytest.approx([0.2, 0.2, 0.2]) and row.seconds == pytest.approx(1.7)
    found = Percentiles.of([float(n) for n in range(1, 102)])
    assert (found.p50, found.p95, found.p99, found.highest, found.mean) == (51, 96, 100, 101, 51)
    assert Percentiles.of([]) == Percentiles(None, None, None, None, None)


def test_fairness_is_jains_index():
    even = [record(client=n, arrivals=[(0.5, 10)]) for n in range(4)]
    assert fairness(even) == pytest.approx(1)
    one = [record(client=0, arrivals=[(0.5, 10)]), *(record(client=n) for n in (1, 2, 3))]
    assert fairness(one) == pytest.approx(0.25) and fairness([]) is None


def test_the_steady_rate_leaves_out_the_end_where_one_client_is_alone():
    both = [record(client=n, arrivals=[(t / 10, 1) for t in range(1, 41)], ended=4.0) for n in (0, 1)]
    tail = record(client=1, sent=4.0, arrivals=[(4.0 + t / 10, 1) for t in range(1, 41)], ended=8.0)
    load = Load([*both, tail], 2, 8.0, 0.0)
    assert steady_rate(load) == pytest.approx(20, rel=0.03) and summarise(load).tokens_per_second == 15


def test_records_survive_the_disk(tmp_path, server):
    load = closed_loop(server.connect, uniform_jobs(3, prompt_tokens=4, max_new_tokens=3), 2)
    write_records(tmp_path / "rows.jsonl", load.records)
    again = list(read_records(tmp_path / "rows.jsonl"))
    assert [r.n_tokens for r in again] == [3, 3, 3] and again[0].first_token == pytest.approx(load.records[0].first_token, abs=1e-5)
    (tmp_path / "bad.jsonl").write_text('{"client": 1}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 1"):
        list(read_records(tmp_path / "bad.jsonl"))


def test_prompts_have_the_wished_length_and_differ(server):
    jobs = uniform_jobs(5, prompt_tokens=10, max_new_tokens=1, characters_per_token=2.0)
    assert all(len(job.prompt) == 20 for job in jobs) and len({job.prompt for job in jobs}) == 5
    assert korean_text(50, 1) == korean_text(50, 1) != korean_text(50, 2)
    assert characters_per_token(server.connect()) == pytest.approx(1.0)
    with FakeServer(context_length=20) as small:
        assert characters_per_token(small.connect()) == pytest.approx(1.0)
    mixture = list(itertools.islice(mixed_jobs(100, 1.0, seed=2), 300))
    assert {job.kind for job in mixture} == {"short", "long", "cancel", "slow", "too long"}
    assert all((len(job.prompt) >= 100) == (job.kind == "too long") for job in mixture)


def test_a_watch_sees_the_queue_that_little_s_law_predicts():
    with FakeServer(max_rows=2, seconds_per_token=0.005) as server, Watch(server.metrics_address, every=0.02) as watch:
        summary = summarise(closed_loop(server.connect, uniform_jobs(24, prompt_tokens=3, max_new_tokens=10), 6))
    assert watch.failures == 0 and len(watch.looks) > 5
    assert watch.in_system == pytest.approx(summary.requests_per_second * summary.total.mean, rel=0.3)
    assert watch.batch_size == pytest.approx(1)


def test_a_soak_of_a_sound_server_passes():
    with FakeServer(max_rows=2, max_waiting=2, seconds_per_token=0.002) as server:
        report = soak(server.connect, server.metrics_address, seconds=4, n_clients=6, context_length=100, expect_busy=True)
    assert report.passed, report.lines()
    assert report.lines()[0].startswith("PASS: ") and report.account.client_requests["busy"] > 0
    assert {part.name for part in report.memory} == {"server", "engines"} and "판정하지 않음" in report.lines()[-1]


def test_a_soak_of_a_bad_server_fails_and_says_why():
    with FakeServer(loses=50, breaks=3, seconds_per_token=0.002) as server:
        report = soak(server.connect, server.metrics_address, seconds=2, n_clients=4, context_length=100)
    text = "\n".join(report.lines())
    assert text.startswith("FAIL: ") and "실패함: OSError: the engine fell over" in text and "토큰 수: 클라이언트가 받은 것" in text


def test_a_soak_without_the_busy_answers_it_should_meet_fails(server):
    report = soak(server.connect, server.metrics_address, seconds=1, n_clients=2, context_length=100, expect_busy=True)
    assert any("붐빈다는 답을 받은 요청이 없음" in fault for fault in report.faults)


def test_growing_memory_is_not_flat_and_a_warm_up_is_no_growth():
    seconds = [float(n) for n in range(100)]
    mib = float(2**20)
    assert not Flatness.of("x", seconds, [(400 + n) * mib for n in seconds]).flat
    assert Flatness.of("x", seconds, [min(100 + 50 * n, 600) * mib for n in seconds]).flat
    spike = [500 * mib] * 60 + [700 * mib] + [500 * mib] * 39
    assert not Flatness.of("x", seconds, spike).flat
    waves = Flatness.of("x", seconds, [(500 + 5 * (n % 7)) * mib for n in seconds])
    assert waves.flat and abs(waves.growth) < 5 * mib
    assert Flatness.of("x", seconds, [(400 + n) * mib for n in seconds]).verdict == "늘어남"
    short = Flatness.of("x", [n / 10 for n in seconds], [(400 + n) * mib for n in seconds])
    assert short.verdict == "60초보다 짧아 판정하지 않음"


def test_metrics_that_cannot_be_read_say_what_to_do(server):
    server.__exit__()
    with pytest.raises(EngineError, match="is the Triton server running"):
        read_metrics(server.metrics_address)
    with pytest.raises(ValueError, match="host:port"):
        read_metrics("localhost")
    server.__enter__()
