"""The training benchmark's arithmetic: who is compared with whom, and what is said of a peer that is missing."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(scope="module")
def bench(repository):
    spec = importlib.util.spec_from_file_location("training_benchmark", repository / "benchmarks" / "training.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(speed, peak=0.0, flops=0.0):
    return {"speed": speed, "mode": "bf16 compiled", "parameters": 13_800_000, "peak": peak,
            "mfu": speed * flops / peak if peak else None}


def test_each_peer_meets_our_model_of_its_kind(bench):
    final = {"ours, Llama": measured(6000.0, 1e12, 9e7), "ours, GPT-2": measured(5000.0, 1e12, 8e7),
             "transformers Llama": measured(4000.0), "transformers GPT-2": measured(4500.0)}
    rows = {row["name"]: row for row in bench.rows(final, ["litgpt Llama"])}
    assert rows["training, transformers Llama"]["ratio"] == 1.5
    assert rows["training, transformers GPT-2"]["ratio"] == 1.11
    assert rows["MFU (ours, Llama)"]["ratio"] == 0.54
    assert rows["training, litgpt Llama"]["ratio"] is None and "bench.txt" in rows["training, litgpt Llama"]["note"]
    for row in rows.values():
        assert set(row) == {"name", "ours", "peer", "unit", "ratio", "target", "note"}
    assert len(bench.markdown(list(rows.values())).splitlines()) == 2 + len(rows)


def test_the_best_mode_wins(bench):
    assert bench.best_mode({("float32", False): 100.0, ("bf16", True): 300.0, ("bf16", False): 200.0}) == ("bf16", True)


def test_every_pin_of_the_peers_is_exact(repository):
    lines = [line for line in (repository / "environments" / "bench.txt").read_text().splitlines() if line and line[0] != "#"]
    assert lines and all("==" in line for line in lines)
    assert {"litgpt", "llms-from-scratch"} <= {line.split("==")[0] for line in lines}


def test_an_installed_peer_or_ours_is_found(bench):
    found, missing = bench.installed()
    assert {"ours, Llama", "ours, GPT-2", "transformers Llama"} <= set(found)
    assert set(found) | set(missing) == set(bench.CONTENDERS)


def test_a_worker_that_fails_says_why(bench, monkeypatch):
    """The process's last line becomes the reason that the benchmark prints."""
    worker = bench.Worker("no such contender", "bf16", False)
    with pytest.raises(RuntimeError, match="KeyError: 'no such contender'"):
        worker.ask("steps", 1)
    worker.close()
