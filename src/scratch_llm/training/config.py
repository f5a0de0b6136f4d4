"""What a training run is told, and what it reports."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from scratch_llm.training.schedule import SCHEDULES

_CHOICES = {
    "precision": ("auto", "float32", "bfloat16"),
    "compile": ("auto", "on", "off"),
    "schedule": SCHEDULES,
    "optimizer": ("adamw", "muon", "adafactor"),
    "on_bad_step": ("stop", "skip", "roll_back"),
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
    z_loss: float = 0.0
    """Weight of mean(log(Z)^2) beside the loss, Z the softmax's denominator: 1e-4 keeps logits from drifting (PaLM)."""
    ema_decay: float | None = None
    """Decay of an average of the weights that is kept, evaluated and returned beside them, such as 0.999.  None: no average."""
    on_bad_step: str = "stop"
    """At a loss that is not finite, or a spike: "stop", "skip" its batch, or "roll_back"; see ``training.bad_steps``."""
    spike_threshold: float | None = None
    """Robust z-score above which a loss is a spike, such as 10.  None: only losses that are not finite are bad."""
    spike_window: int = 50
    """How many good losses a spike is told from; half of them must be known before the first one is."""
    max_bad_steps: int = 10
    """More bad steps than these between two checkpoints stop the run."""
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
                        "log_every", "max_bad_steps")
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
        if self.z_loss < 0:
            raise ValueError(f"z_loss {self.z_loss} must not be negative; 1e-4 is usual, 0 leaves it out")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay {self.ema_decay} must be at least 0 and below 1; 0.999 is usual, None keeps no average")
        if self.spike_threshold is not None and not self.spike_threshold > 0:
            raise ValueError(f"spike_threshold {self.spike_threshold} must be above 0; 10 is usual, None looks for no spikes")
        if self.spike_window < 4:
            raise ValueError(f"spike_window {self.spike_window} must be at least 4 steps")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(allowed)}")

    def identity(self) -> dict:
        """The settings that decide the result; the others (log_every, keep, …) may change on resuming."""
        free = {"eval_every", "eval_batches", "keep", "log_every"}
        if self.on_bad_step != "roll_back":  # which checkpoints there are decides where a run rolls back to
            free.add("save_every")
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
    ema_valid_loss: float | None = None
    """Of the averaged weights, as ``ema_bits_per_byte``; None without ``ema_decay``."""
    ema_bits_per_byte: float | None = None
    average: dict[str, Tensor] | None = None
    """The averaged weights by name, for ``training.with_weights``; on rank 0 alone."""
    bad_steps: int = 0
    """Steps that were skipped or rolled back from."""
