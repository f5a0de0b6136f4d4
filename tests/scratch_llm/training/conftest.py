"""A tiny Llama and a tiny learnable text, so that every test trains for real in milliseconds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratch_llm.data import TokenFile, TokenFileWriter, Windows
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.training import TrainingConfig

VOCAB_SIZE, CONTEXT = 64, 16


def write_text(path, seed: int = 0):
    """Documents that count upwards in steps of 1, 2 or 3: the next token follows from the last two."""
    generator = np.random.default_rng(seed)
    with TokenFileWriter(path, VOCAB_SIZE) as writer:
        for _ in range(120):
            length = int(generator.integers(4, 40))
            ids = (int(generator.integers(60)) + int(generator.integers(1, 4)) * np.arange(length)) % 60
            writer.append(ids, n_bytes=3 * length)
    return TokenFile(path)


@pytest.fixture
def windows(tmp_path):
    """Training and validation windows, batch size 8."""
    return tuple(Windows(write_text(tmp_path / name, seed), CONTEXT, 8, packing="documents")
                 for seed, name in enumerate(("train", "valid")))


@pytest.fixture
def tiny():
    """Makes the same tiny Llama each time it is called."""

    def make(**changes):
        torch.manual_seed(0)
        shape = {"vocab_size": VOCAB_SIZE, "context_length": CONTEXT, "n_layers": 1, "n_heads": 2, "d_model": 16}
        return build_model(LlamaConfig(**(shape | changes)))

    return make


@pytest.fixture
def settings():
    """A short run in float32; keyword arguments change it."""

    def make(**changes):
        values = {"steps": 12, "batch_size": 8, "precision": "float32", "compile": "off", "learning_rate": 1e-2,
                  "warmup_steps": 2, "eval_every": 6, "save_every": 4, "eval_batches": 2}
        return TrainingConfig(**(values | changes))

    return make
