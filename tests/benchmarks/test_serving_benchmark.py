"""The serving benchmark's arithmetic, its model, and what it says where there is no server."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from llm_workshop.serving.loadtest import Load, Record, summarise
from llm_workshop.serving.triton.installation import find_installation


@pytest.fixture(scope="module")
def bench(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    return importlib.import_module("serving")


def answer(client, now, gap, first):
    arrivals = [(now + first + gap * n, 1) for n in range(10)]
    return Record(client, "plain", now, now, arrivals[-1][0], arrivals, "length")


def load(n_clients, gap, first):
    """Every client: four answers of ten tokens, ``first`` seconds and then every ``gap``."""
    records = []
    for client in range(n_clients):
        now = 0.0
        for _ in range(4):
            records.append(answer(client, now, gap, first))
            now = records[-1].ended
    return summarise(Load(records, n_clients, now, 0.1))


def found(bench, here, there, eight, peer, seconds):
    """Answers and loads of one gap each; the second of three pairs and rounds in a slow spell, the third in a worse one."""
    speeds = (1, 2, 5)
    pairs = [tuple(answer(0, 0.0, gap * slow, gap * slow) for gap in (here, there)) for slow in speeds]
    rounds = [
        bench.Round(load(1, there * slow, there * slow), load(8, eight[1] * slow, eight[0] * slow), load(8, peer * slow, peer * slow))
        for slow in speeds
    ]
    return bench.Found(pairs, rounds, seconds)


def test_the_targets_are_held_to_the_right_side(bench):
    rows = bench.rows(found(bench, 0.010, 0.011, (0.030, 0.020), 0.088, 5.0))
    assert all(set(row) == {"name", "ours", "peer", "unit", "ratio", "target", "note"} for row in rows)
    cost, batching, peer, waiting, start = rows
    assert cost["ours"] == pytest.approx(22) and cost["peer"] == pytest.approx(20)
    assert cost["ratio"] == 0.91 and cost["target"] == 0.87 and "from 0.91 to 0.91" in cost["note"]
    assert batching["ratio"] == pytest.approx(8 * 0.011 / 0.021, rel=0.05) and batching["target"] == 3
    assert peer["ratio"] == pytest.approx(0.088 / 0.021, rel=0.05) and peer["target"] == 2
    assert waiting["ratio"] == pytest.approx(0.37, abs=0.01) and waiting["ratio"] > waiting["target"] == 0.33
    assert start["ratio"] == 4 and start["target"] == 1 and "half of" not in start["note"]
    text = bench.table(rows)
    assert "missed" not in text
    slow = bench.rows(found(bench, 0.01, 0.02, (0.16, 0.16), 0.16, 30.0))
    assert bench.table(slow).count("(missed)") == 5


def test_every_token_of_the_model_is_in_the_tokenizer(bench, tmp_path):
    folder = bench.write_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    tokenizer = bench.ByteLevelBPE.load(folder)
    assert tokenizer.vocab_size == config["vocab_size"] == 8192
    work = bench.jobs(30, bench.characters_a_token(tokenizer), seed=5)
    lengths = {len(tokenizer.encode(job.prompt)) for job in work}
    assert len({job.prompt for job in work}) == 30 and 30 <= min(lengths) <= max(lengths) <= 70
    assert {job.sampling.temperature for job in work} == {0.0} and 16 <= min(j.sampling.max_new_tokens for j in work)
    assert len({job.sampling.max_new_tokens for job in work}) > 10 and max(j.sampling.max_new_tokens for j in work) <= 48


def test_without_a_server_the_row_says_how_to_get_one(bench, monkeypatch, capsys):
    def nothing():
        raise ValueError("no Triton server here: run `make env-triton`")

    monkeypatch.setattr(bench, "find_installation", nothing)
    [row] = bench.run(quick=True)
    assert row["ratio"] is None and "make env-triton" in row["note"] and "SKIPPED serving" in capsys.readouterr().out


@pytest.mark.slow
def test_a_real_server_is_measured_and_soaked(bench, tmp_path):
    """A few answers of a small model through everything that the benchmark does but the second engine."""
    try:
        find_installation()
    except ValueError as problem:
        pytest.skip(str(problem))
    # One thread: where other tests take the cores, two would wait for each other at every product.
    settings = bench.resolved(bench.EngineSettings(model=bench.write_model(tmp_path), threads=1, max_rows=4))
    ratio = bench.characters_a_token(bench.ByteLevelBPE.load(tmp_path))
    with bench.served_model(settings) as server:
        summary = bench.asked(server, bench.jobs(6, ratio, 0), 3)
        assert set(summary.outcomes) <= {"stop", "length"} and sum(summary.outcomes.values()) == 6
        engine = bench.in_own_thread(bench.in_process, settings)
        pairs = bench.in_turns(engine, server, bench.jobs(4, ratio, 7))
        assert len(pairs) == 4 and all(min(here.n_tokens, there.n_tokens) > 10 for here, there in pairs)
        assert summary.n_clients == 3 and server.seconds_to_ready > 0 and server.context_length == 256
    row = bench.soak_row(settings, 10)
    assert row["ratio"] == 1.0 and row["note"].startswith("PASS")
