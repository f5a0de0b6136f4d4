"""The attention benchmark's rows and its check that all contenders compute the same."""

from __future__ import annotations

import importlib.util

import pytest
import torch


@pytest.fixture(scope="module")
def bench(repository):
    spec = importlib.util.spec_from_file_location("attention_benchmark", repository / "benchmarks" / "attention.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_compare_each_variant_with_the_peer(bench, monkeypatch, tmp_path):
    few = {name: bench.MULTI_HEAD_VARIANTS[name] for name in ("split weights", "FlexAttention", bench.OURS, bench.PEER)}
    monkeypatch.setattr(bench, "MULTI_HEAD_VARIANTS", few)
    monkeypatch.setattr(few["FlexAttention"], "cannot_run", lambda self, x: "no kernel")
    rows = bench.run(quick=True, shapes=[(128, 16)], folder=tmp_path)
    assert len(rows) == 2 * 3 and (tmp_path / "attention.png").stat().st_size > 10_000
    by_name = {row["name"]: row for row in rows}
    ours = by_name["workshop, forward and backward, d 128, T 16"]
    assert ours["ratio"] == pytest.approx(ours["peer"] / ours["ours"]) and ours["target"] == bench.TARGET
    assert by_name["split weights, forward, d 128, T 16"]["target"] is None
    missing = by_name["FlexAttention, forward and backward, d 128, T 16"]
    assert missing["ratio"] is None and missing["note"] == "does not run here"


def test_a_contender_that_computes_something_else_stops_the_benchmark(bench):
    layers = bench.family(64, 8, "cpu", torch.float32)
    x = torch.randn(1, 8, 64)
    few = {name: layers[name] for name in ("split weights", bench.PEER)}
    bench.check_agreement(few, x)
    with torch.no_grad():
        layers["split weights"].value.weight[0] += 0.1
    with pytest.raises(RuntimeError, match="'split weights' differs"):
        bench.check_agreement(few, x)
