"""The benchmark of adapters compares equal models, and says what it compared."""

from __future__ import annotations

import importlib.util

import pytest

from scratch_llm.models import LlamaConfig, build_model

pytest.importorskip("peft")


@pytest.fixture
def bench(repository, monkeypatch):
    spec = importlib.util.spec_from_file_location("adapters_benchmark", repository / "benchmarks" / "adapters.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tiny = LlamaConfig(vocab_size=61, context_length=16, n_layers=1, d_model=16, n_heads=2)
    monkeypatch.setattr(module, "config_of", lambda family: tiny)
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(module, "CONTEXT", 16)
    return module


def test_rows_of_all_methods(bench):
    full, *rows = bench.run(quick=True, families=("llama",), precision="float32")
    assert full["name"] == "full, llama 15M, against transformers"
    assert full["note"] == f"float32, {build_model(bench.config_of('llama')).n_parameters():,} weights learn"
    assert [row["name"] for row in rows] == [f"{method}, llama 15M, against PEFT" for method in ("lora", "dora")]
    for row in (full, *rows):
        assert row["ratio"] == pytest.approx(row["ours"] / row["peer"], abs=0.006) and row["target"] == 1.3
    # Rank 8 on qkv (3 x 16), out (16 x 16), gate, up and down (16 x 64); DoRA has a length for each row besides.
    n_lora = 8 * (3 * 32 + 32 + 3 * (16 + 64))
    assert rows[0]["note"] == f"float32, {n_lora:,} weights learn"
    assert rows[1]["note"] == f"float32, {n_lora + 3 * 16 + 16 + 2 * 64 + 16:,} weights learn"


class Fake:
    """Answers as a worker: the seconds of one step after another."""

    def __init__(self, seconds, loss=1.0, learnt=3):
        self.seconds, self.loss, self.learnt = iter(seconds), loss, learnt

    def ask(self, command, number=0):
        return {"learnt": self.learnt} if command == "facts" else {"seconds": [next(self.seconds)], "loss": self.loss}


def test_the_fastest_step_counts(bench):
    speeds = bench.in_turns({"ours": Fake([1, 9, 2]), "theirs": Fake([1, 8, 16])}, rounds=2, warm_up=1)
    assert speeds == {"ours": 2 * 16 / 2, "theirs": 2 * 16 / 8}


def test_what_differs_has_no_speed(bench):
    with pytest.raises(RuntimeError, match=r"the first losses are 1.0000 and 1.5000: they are not the same function"):
        bench.in_turns({"ours": Fake([1, 1]), "theirs": Fake([1, 1], loss=1.5)}, rounds=1, warm_up=1)
    with pytest.raises(RuntimeError, match="3 weights learn in ours and 4 in theirs"):
        bench.same_count({"ours": Fake([]), "theirs": Fake([], learnt=4)})


def test_an_unknown_model_is_refused(bench):
    with pytest.raises(ValueError, match="no model 'bert'"):
        bench.run(families=("bert",))
