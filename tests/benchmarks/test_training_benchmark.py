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
    def one(who, family):
        return bench.Contender(who, family, "15M")

    final = {one("ours", "llama"): measured(6000.0, 1e12, 9e7), one("ours", "gpt2"): measured(5000.0, 1e12, 8e7),
             one("transformers", "llama"): measured(4000.0), one("transformers", "gpt2"): measured(4500.0)}
    failures = {one("transformers", "llama"): {("bf16", True): "no answer in 150 s"}, one("transformers", "qwen3"): {("bf16", False): "KeyError: 'x'"}}
    rows = {row["name"]: row for row in bench.rows(final, [one("litgpt", "llama")], failures)}
    assert rows["training, transformers llama 15M"]["ratio"] == 1.5
    assert rows["training, transformers gpt2 15M"]["ratio"] == 1.11
    assert rows["MFU, ours llama 15M"]["ratio"] == 0.54
    missing = rows["training, litgpt llama 15M"]
    assert missing["ratio"] is None and "bench.txt" in missing["note"]
    assert rows["training, transformers llama 15M"]["note"].endswith("peer bf16 compiled; bf16 compiled: no answer in 150 s")
    lost = rows["training, transformers qwen3 15M"]
    assert lost["peer"] is None and lost["note"] == "bf16 eager: KeyError: 'x'"
    for row in rows.values():
        assert set(row) == {"name", "ours", "peer", "unit", "ratio", "target", "note"}
    assert len(bench.table(list(rows.values())).splitlines()) == 2 + len(rows)


def test_the_best_mode_wins(bench):
    assert bench.best_mode({("float32", False): 100.0, ("bf16", True): 300.0, ("bf16", False): 200.0}) == ("bf16", True)


def test_every_pin_of_the_peers_is_exact(repository):
    lines = [line for line in (repository / "environments" / "bench.txt").read_text().splitlines() if line and line[0] != "#"]
    assert lines and all("==" in line for line in lines)
    assert {"litgpt", "llms-from-scratch"} <= {line.split("==")[0] for line in lines}


def test_an_installed_peer_or_ours_is_found(bench):
    found, missing = bench.contenders(["llama", "gpt2"], ["15M"])
    names = {str(one) for one in found}
    assert {"ours llama 15M", "ours gpt2 15M", "transformers llama 15M", "transformers gpt2 15M"} <= names
    assert {one.who for one in found + missing} == {"ours", "transformers", "litgpt", "llms-from-scratch"}
    assert all(bench.Contender.parse(str(one)) == one for one in found)
    apart = [one for part in bench.contenders(["llama", "lstm"], ["15M"], apart=True) for one in part if one not in found + missing]
    [automodel] = [one for one in apart if one.family == "llama"]
    assert automodel.who == "AutoModel" and automodel.cure == "make env-nemo" and ".envs/nemo" in automodel.python


def test_a_model_without_a_shape_is_refused(bench):
    with pytest.raises(ValueError, match=r"no model 'bert': use llama, "):
        bench.run(quick=True, families=["bert"])


def test_a_worker_that_fails_says_why(bench):
    """The process's last line becomes the reason that the benchmark prints."""
    worker = bench.Worker(bench.Contender("ours", "nothing", "15M"), "bf16", False)
    with pytest.raises(RuntimeError, match="KeyError: 'nothing'"):
        worker.ask("steps", 1)
    worker.close()


class Pretended:
    """A worker of which transformers fails when compiled, and litgpt always."""

    closed = 0

    def __init__(self, contender, precision, compiled, patience):
        self.contender, self.compiled, self.mode = contender, compiled, f"{precision} {compiled}"

    def ask(self, command, number=0):
        if self.contender.who == "litgpt" or (self.compiled and self.contender.who == "transformers"):
            raise RuntimeError("no | answer")
        speed = {"seconds": [0.5] * int(number), "peak": 1e12, "flops_per_token": 1e8, "parameters": 1}
        return speed

    def close(self):
        Pretended.closed += 1


def test_modes_that_fail_are_noted_and_the_rest_goes_on(bench, monkeypatch, capsys):
    everyone = [bench.Contender(who, "llama", "15M") for who in ("ours", "transformers", "litgpt")]
    monkeypatch.setattr(bench, "contenders", lambda families, sizes, apart: (everyone, []))
    monkeypatch.setattr(bench, "Worker", Pretended)
    rows = {row["name"]: row for row in bench.run(families=["llama"], precisions=("bf16",))}
    output = capsys.readouterr().out
    assert "SKIPPED transformers llama 15M, bf16 compiled: no | answer" in output
    assert "| transformers llama 15M |  |  | 8,192 | – |  |  | bf16 compiled: no \\| answer |" in output
    assert rows["training, transformers llama 15M"]["ratio"] == 1.0
    assert rows["training, litgpt llama 15M"]["note"] == "bf16 eager: no | answer; bf16 compiled: no | answer"
    assert Pretended.closed == 6 + 2  # every mode alone, then the two that run


def test_a_contender_that_fails_in_its_turn_is_left_out(bench, monkeypatch, capsys):
    ours, peer = (bench.Contender(who, "llama", "15M") for who in ("ours", "transformers"))
    monkeypatch.setattr(bench, "Worker", Pretended)
    failures = {ours: {}, peer: {}}
    final = bench.interleaved({ours: ("bf16", True), peer: ("bf16", True)}, failures, rounds=2, steps=1)
    assert list(final) == [ours] and final[ours]["speed"] == 8192 and failures[peer] == {("bf16", True): "no | answer"}


def test_a_worker_without_an_answer_is_given_up(bench):
    worker = bench.Worker(bench.Contender("ours", "llama", "15M"), "bf16", False, patience=0.01)
    with pytest.raises(RuntimeError, match=r"no answer in 0\.01 s"):
        worker.ask("steps", 1)
    worker.close()


def test_patience_must_be_positive(bench):
    with pytest.raises(ValueError, match=r"patience 0: use seconds above 0 \(default 150\)"):
        bench.run(quick=True, families=["llama"], patience=0)
