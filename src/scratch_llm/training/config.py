"""What a training run is told, and what it reports."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from scratch_llm.training.schedule import SCHEDULES

_CHOICES = {
    "precision": ("auto", "float32", "bfloat16"),
    "compile": ("auto", "on", "off"),
    "schedule": SCHEDULES,
    "optimizer": ("adamw", "muon", "adafactor"),
}


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one run.  ``None`` means "derive it", as each line says."""

    steps: int = 1000
    """Optimiser steps."""
    batch_size: int = 16
    """Sequences per optimiser step."""
    micro_batch_size: int | None = None
    """Sequences per forward pass; gradients are summed over micro-batches.  None: batch_size."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    min_learning_rate: float | None = None
    """Last learning rate.  None: a tenth of the peak."""
    schedule: str = "cosine"
    """"cosine", "wsd" (warm-up, plateau, decay) or "one_cycle"; see ``training.schedule``."""
    warmup_steps: int | None = None
    """Steps of warm-up.  None: a twentieth of the steps, at most 500; three tenths of them for one cycle."""
    decay_share: float = 0.2
    """Share of the steps, the last ones, in which "wsd" decays."""
    optimizer: str = "adamw"
    """"adamw", "muon" (hidden matrices; AdamW does the rest) or "adafactor" (hardly any state)."""
    weight_decay: float = 0.1
    """Decoupled weight decay, on matrices only."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of the first and second moment."""
    grad_clip: float = 1.0
    """Largest global gradient norm."""
    precision: str = "auto"
    """"float32", "bfloat16" (weights and optimiser stay float32), or "auto": the faster one here."""
    compile: str = "auto"
    """"on", "off", or "auto": on where the run is long enough to win back the compilation."""
    eval_every: int | None = None
    """Steps between evaluations.  None: ten in a run."""
    eval_batches: int = 8
    """Batches per evaluation, always the same ones."""
    save_every: int | None = None
    """Steps between checkpoints.  None: as eval_every."""
    keep: int = 2
    """Checkpoints kept on disk."""
    log_every: int = 10
    """Steps between printed lines."""
    seed: int = 0
    """Seed of dropout; step n draws from a generator seeded by (seed, n), whatever ran before."""

    def __post_init__(self):
        derived = {
            "micro_batch_size": self.batch_size,
            "min_learning_rate": self.learning_rate / 10,
            "warmup_steps": self.steps * 3 // 10 if self.schedule == "one_cycle" else min(500, self.steps // 20),
            "eval_every": max(1, self.steps // 10),
        }
        for name, value in derived.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.save_every is None:
            object.__setattr__(self, "save_every", self.eval_every)
        self._check()

    def _check(self) -> None:
        at_least_one = ("steps", "batch_size", "micro_batch_size", "eval_every", "eval_batches", "save_every", "keep",
                        "log_every")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}; "
                             f"choose a divisor of it")
        if not 0 <= self.min_learning_rate <= self.learning_rate or self.learning_rate <= 0:
            raise ValueError(f"learning_rate {self.learning_rate} must be above 0, and min_learning_rate "
                             f"{self.min_learning_rate} from 0 to it")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be from 0 to steps, {self.steps}")
        if self.weight_decay < 0 or self.grad_clip <= 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"weight_decay {self.weight_decay} must be at least 0, grad_clip {self.grad_clip} above 0, "
                             f"betas {self.betas} in [0, 1)")
        if not 0 < self.decay_share <= 1:
            raise ValueError(f"decay_share {self.decay_share} must be above 0 and at most 1")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(allowed)}")

    def identity(self) -> dict:
        """The settings that decide the result; the others (log_every, keep, …) may change on resuming."""
        free = {"eval_every", "eval_batches", "save_every", "keep", "log_every"}
        values = {name: value for name, value in dataclasses.asdict(self).items() if name not in free}
        return values | {"betas": list(self.betas)}


@dataclass(frozen=True)
class TrainingResult:
    """What ``train`` returns.  Losses are in nats per token."""

    steps: int
    loss: float
    """Mean training loss of the last tenth of the steps."""
    valid_loss: float
    bits_per_byte: float | None
    """Held-out bits per byte of text; None where ``token_bytes`` was not given."""
    tokens_per_second: float
    """Median over the steps that this process ran, evaluation and checkpoints left out."""
    mfu: float | None
    """Model FLOP/s over the measured matmul peak; None where the model cannot count its FLOPs."""
    seconds: float
    """Wall time, over all resumptions."""
    metrics_path: Path
