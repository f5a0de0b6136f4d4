"""Sizes and hours against sums that can be done by hand."""

from __future__ import annotations

import pytest

from llm_workshop.orientation.costs import (
    expected_loss,
    fits,
    human_hours,
    memory_by_size,
    sizes,
    smallest_gpu,
    training_hours,
)
from llm_workshop.orientation.plots import count_in_korean, memory_plot
from scratch_llm.models import LlamaConfig

TINY = {"tiny": LlamaConfig(vocab_size=100, context_length=2048, n_layers=1, n_heads=2, n_kv_heads=1, d_model=8, d_ff=16)}


def test_memory_of_a_tiny_model_by_hand():
    [row] = memory_by_size(TINY)
    # Embedding 800, q 64, k and v 32 each, output 64, SwiGLU 3 x 128, norms 2 x 8 + 8; the output layer is tied or its own.
    body = 800 + 64 + 32 + 32 + 64 + 384 + 24
    n = row["parameters"]
    assert n in (body, body + 800)
    assert (row["bfloat16"], row["int8"], row["int4"]) == (2 * n, n, n // 2)
    assert row["cache"] >= 2 * 1 * 1 * 4 * 2048 * 2  # 2 L K d T numbers of two bytes
    assert row["lora"] < row["checkpointed"] <= row["full"] and row["full"] > 16 * n


def test_ten_times_the_weights_cost_about_a_hundred_times_the_operations():
    rows = {row["name"]: row for row in training_hours(sizes())}
    small, large = rows["Llama 3.1 8B"], rows["Llama 3.1 70B"]
    ratio = large["parameters"] / small["parameters"]
    assert large["flops"] / small["flops"] == pytest.approx(ratio**2, rel=0.1)
    for row in rows.values():
        assert row["tokens"] == 20 * row["parameters"]
        h100 = row["flops"] / (0.4 * 989.4e12) / 3600
        assert row["hours"]["H100 SXM"] == pytest.approx(h100)
        assert list(row["hours"].values()) == sorted(row["hours"].values(), reverse=True), "from slow to fast"


def test_gpt2_is_counted_as_published_with_its_own_context():
    rows = {row["name"]: row for row in memory_by_size(sizes())}
    gpt2 = rows["GPT-2 124M"]
    assert gpt2["parameters"] == 124_439_808
    assert gpt2["cache"] == 2 * 12 * 768 * 1024 * 2, "keys and values, 12 layers of width 768, 1,024 tokens, two bytes"


def test_the_plot_shows_what_the_table_does():
    rows = memory_by_size(sizes())
    lines = {line.get_label(): line.get_ydata() for line in memory_plot(rows, {"T4": 16e9}).axes[0].lines}
    assert list(lines["추론 int4"]) == [(row["int4"] + row["cache"]) / 1e9 for row in rows]
    assert list(lines["전체 학습"]) == [row["full"] / 1e9 for row in rows]


def test_what_fits_leaves_a_tenth():
    assert fits(14.4e9, "T4") and not fits(14.5e9, "T4")
    assert [smallest_gpu(n) for n in (1e9, 15e9, 70e9, 100e9)] == ["T4", "RTX 4090", "A100 SXM 80GB", "H200"]
    assert smallest_gpu(2.5 * 0.9 * 141e9) == "H200 3장"


def test_the_loss_falls_with_both_and_never_below_its_floor():
    assert expected_loss(1e9, 1e9) > expected_loss(1e10, 1e9) > expected_loss(1e10, 1e11) > 1.69
    # Chinchilla itself: 70 billion weights, 1.4 trillion tokens.
    assert expected_loss(70e9, 1.4e12) == pytest.approx(1.69 + 0.083 + 0.163, abs=0.005)


def test_figures_in_words():
    assert [human_hours(h) for h in (0.001, 0.5, 3.14, 30, 100, 24 * 800)] == ["4초", "30분", "3.1시간", "30시간", "4일", "2년"]
    assert [count_in_korean(v) for v in (950, 1.2e7, 2.5e8, 7e10, 1.4e12)] == ["950", "1,200만", "2.5억", "700억", "1.4조"]
