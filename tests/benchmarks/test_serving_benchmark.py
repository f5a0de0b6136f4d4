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


def load(n_clients, gap, first):
    """Every client: four answers of ten tokens, ``first`` seconds and then every ``gap``."""
    records = []
    for client in range(n_clients):
        now = 0.0
        for _ in range(4):
            arrivals = [(now + first + gap * n, 1) for n in range(10)]
            records.append(Record(client, "plain", now, now, arrivals[-1][0], arrivals, "length"))
            now = arrivals[-1][0]
    return summarise(Load(records, n_clients, now, 0.1))


def test_the_targets_are_held_to_the_right_side(bench):
    found = bench.Found(in_process=load(1, 0.010, 0.010), one=load(1, 0.011, 0.011), eight=load(8, 0.020, 0.030),
                        peer_eight=load(8, 0.088, 0.088), seconds_to_ready=5.0)  # fmt: skip
    rows = bench.rows(found)
    assert all(set(row) == {"name", "ours", "peer", "unit", "ratio", "target", "note"} for row in rows)
    cost, batching, peer, waiting, start = rows
    assert cost["ours"] > cost["peer"] and cost["ratio"] == pytest.approx(0.91, abs=0.02) and cost["ratio"] > cost["target"] == 0.87
    assert batching["ratio"] == pytest.approx(8 * 0.011 / 0.021, rel=0.05) and batching["target"] == 3
    assert peer["ratio"] == pytest.approx(0.088 / 0.021, rel=0.05) and peer["target"] == 2
    assert waiting["ratio"] == pytest.approx(0.37, abs=0.01) and waiting["ratio"] > waiting["target"] == 0.33
    assert start["ratio"] == 4 and start["target"] == 1
    text = bench.table(rows)
    assert "missed" not in text
    slow = bench.rows(bench.Found(load(1, 0.01, 0.01), load(1, 0.02, 0.02), load(8, 0.16, 0.16), load(8, 0.16, 0.16), 30.0))
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
        assert summary.n_clients == 3 and server.seconds_to_ready > 0 and server.context_length == 256
    row = bench.soak_row(settings, 10)
    assert row["ratio"] == 1.0 and row["note"].startswith("PASS")
