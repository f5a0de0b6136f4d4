"""The GPU benchmark: that it runs (on the CPU, with tiny shapes), and what it says without a GPU."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import gpu  # ty: ignore


def test_every_part_gives_rows():
    rows = gpu.run(list(gpu.PARTS), device="cpu", quick=True, batch=2)
    names = [row["name"] for row in rows]
    assert names[:2] == ["parity, llama, float32", "parity, llama, bfloat16"]
    assert {"training, tiny gpt2", "MFU, ours", "MFU, nanoGPT's method", "decode, tiny gpt2, bfloat16, batch 64"} <= set(names)
    assert all(row["ours"] <= row["peer"] for row in rows if row["name"].startswith("parity"))
    assert all(row["ratio"] > 0 for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU answers here")
def test_without_a_gpu_it_says_what_to_do():
    with pytest.raises(ValueError, match=r"no CUDA device.*--device cpu --quick"):
        gpu.run(["parity"])


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="--batch 0"):
        gpu.run(["training"], device="cpu", quick=True, batch=0)
