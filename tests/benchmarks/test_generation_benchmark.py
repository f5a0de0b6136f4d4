"""The generation benchmark: which peers run, that each generates what was asked for, and the rows."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch


@pytest.fixture(scope="module")
def bench(repository):
    spec = importlib.util.spec_from_file_location("generation_benchmark", repository / "benchmarks" / "generation.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny(bench, monkeypatch):
    """Every family with two narrow blocks."""
    import shapes

    monkeypatch.setitem(shapes.SIZES, "15M", {"vocab_size": 97, "context_length": 64, "n_layers": 2, "d_model": 384})
    return bench


def test_the_peers_of_each_family(bench):
    def names(family):
        there, missing = bench.generation_peers(family, "15M")
        return {one.who for one in there + missing}

    assert names("llama") == names("qwen3") == names("qwen3_moe") == {"litgpt", "llms-from-scratch"}
    assert names("gpt2") == names("mamba") == set()


@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen3_moe"])
def test_every_installed_peer_generates_each_row_as_if_alone(tiny, family):
    there, missing = tiny.generation_peers(family, "15M")
    if not there:
        pytest.skip(f"none of {', '.join(one.who for one in missing)} is installed: {tiny.INSTALL}")
    prompts = torch.randint(1, 97, (3, 5), generator=torch.Generator().manual_seed(0))
    for one in there:
        torch.manual_seed(0)
        generate = tiny.generator_of(one, torch.float32)
        together = generate(prompts, 9)
        assert together.shape == (3, 9)
        assert torch.equal(together, torch.cat([generate(row[None], 9) for row in prompts])), str(one)


def test_a_peer_that_is_not_installed_is_said_to_be(tiny, monkeypatch, capsys):
    monkeypatch.setattr(tiny, "read_bandwidth", lambda: 1e10)
    missing = [one for side in tiny.generation_peers("qwen3", "15M") for one in side]
    monkeypatch.setattr(tiny, "generation_peers", lambda family, size: ([], missing))
    rows = tiny.run(True, ["qwen3"], dtypes=("float32",), batch_sizes=(2,))
    output = capsys.readouterr().out
    for one in missing:
        assert f"SKIPPED {one}: not installed (.venv/bin/python -m pip install" in output
    assert [row["name"] for row in rows] == [
        "generate, qwen3 15M, float32, batch 2, transformers", "generate, litgpt qwen3 15M", "generate, llms-from-scratch qwen3 15M"]
    assert rows[0]["ratio"] > 0 and "; 100% of tokens equal; ratios of rounds" in rows[0]["note"]
    assert all(row["ratio"] is None and "bench.txt" in row["note"] for row in rows[1:])


def test_a_row_for_each_peer(bench):
    # The second round in a slow spell, the third in a worse one.
    ours, theirs, litgpt = ([speed / slow for slow in (1, 2, 5)] for speed in (600.0, 200.0, 400.0))
    rows = bench.rows_of("generate, llama", bench.Measured(ours, theirs, 0.5, {"litgpt": litgpt}), 2, 1_000_000, 1e9)
    assert [(row["name"], row["ratio"]) for row in rows] == [("generate, llama, transformers", 3.0), ("generate, llama, litgpt", 1.5)]
    assert (rows[0]["ours"], rows[0]["peer"]) == (300, 100) and rows[1]["note"].endswith("ratios of rounds 1.50 to 1.50")
    assert "50% of tokens equal" in rows[0]["note"] and "step 6.67 ms, all weights once 1.00 ms" in rows[0]["note"]
    assert "equal" not in rows[1]["note"]
    alone = bench.rows_of("generate, rwkv7", bench.Measured([300.0], None, None), 1, 1_000_000, 1e9)
    assert [(row["name"], row["peer"], row["target"]) for row in alone] == [("generate, rwkv7", None, None)]


def test_a_peer_that_stops_early_is_not_compared(tiny):
    model = tiny.benchmark_model("llama", "15M", torch.float32)
    with pytest.raises(RuntimeError, match=r"\(1, 1\) new tokens came, not \(1, 4\)"):
        tiny.compare(model, None, 1, 4, 1, {"short": lambda prompts, n_tokens: prompts[:, :1]})


def test_models_of_llms_from_scratch_keep_what_they_were_made_with(tiny):
    """Layers without values are filled; norms and tables of angles stay."""
    there, _ = tiny.generation_peers("qwen3_moe", "15M")
    ours = [one for one in there if one.who == "llms-from-scratch"]
    if not ours:
        pytest.skip("llms-from-scratch is not installed")
    model, _ = ours[0].build()
    assert not any(p.is_meta for p in model.parameters())
    assert torch.all(model.final_norm.scale == 1) and torch.all(model.cos[0] == 1)
