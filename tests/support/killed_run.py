"""A training that wants all that a checkpoint holds, run in a process that will be killed."""

from __future__ import annotations

from pathlib import Path

import torch

from scratch_llm.data import TokenFile, Windows
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.training import TrainingConfig, TrainingResult, train

# Dropout, micro-batches, an average, batches left out, the states of Muon and of AdamW.
CONFIG = TrainingConfig(
    steps=60, batch_size=8, micro_batch_size=4, precision="float32", compile="off", learning_rate=1e-2, warmup_steps=4, eval_every=10,
    save_every=3, eval_batches=2, log_every=1, optimizer="muon", schedule="wsd", ema_decay=0.9, on_bad_step="roll_back",
    spike_threshold=8.0, spike_window=10)  # fmt: skip
SHAPE = LlamaConfig(vocab_size=64, context_length=16, n_layers=1, n_heads=2, d_model=16, dropout=0.1)
SPOILT = (20, 41)  # batches whose targets are all one token: spikes


class Spoilt(Windows):
    def batch(self, number):
        inputs, targets = super().batch(number)
        return inputs, torch.full_like(targets, 63) if number in SPOILT else targets


def run(texts: Path, folder: Path, log=lambda line: None) -> tuple[torch.nn.Module, TrainingResult]:
    """Train in ``folder`` on the token files "train" and "valid" in ``texts``, or go on there."""
    model = build_model(SHAPE, seed=0)
    train_windows = Spoilt(TokenFile(texts / "train"), 16, 8, packing="documents")
    valid_windows = Windows(TokenFile(texts / "valid"), 16, 8, packing="documents")
    return model, train(model, train_windows, valid_windows, CONFIG, folder, log=log)


def run_and_tell(texts: Path, folder: Path, pipe, threads: int) -> None:
    """``run`` with its lines sent through ``pipe``."""
    torch.set_num_threads(threads)
    run(texts, folder, pipe.send)
