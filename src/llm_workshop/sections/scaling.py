"""Settings of week 5's experiments: the scaling law, the search for hyperparameters, the ladder of speed."""

from __future__ import annotations

from pydantic import Field

from llm_workshop.sections.base import Section


class ScalingSettings(Section):
    widths: tuple[int, ...] = Field((64, 96, 128, 192, 256), description="widths of the runs that the scaling law is fitted to")
    larger_width: int = Field(384, ge=32, description="width of the run whose loss the law predicts")
    n_layers: int = Field(4, ge=1, description="Transformer blocks, the same at every width")
    context_length: int = Field(128, ge=8, description="tokens per training sequence")
    tokens: int = Field(400_000, ge=1, description="training tokens of each run")
    batch_size: int = Field(8, ge=1, description="sequences per optimiser step")
    learning_rate: float = Field(6e-3, gt=0, description="peak learning rate at a width of 64; it falls with the width")
    seeds: int = Field(1, ge=1, description="runs of each width, with seeds of their own; the law is fitted to all")
    bootstrap: int = Field(400, ge=20, description="fits to resampled residuals, for the confidence band")
    isoflops: tuple[float, ...] = Field((), description="budgets in floating-point operations, each shared out over widths")
    isoflop_widths: tuple[int, ...] = Field((64, 96, 128, 192, 256), description="widths tried at each budget")


class SearchSettings(Section):
    width: int = Field(64, ge=32, description="width of the searched model")
    configurations: int = Field(9, ge=2, description="random settings with which successive halving begins")
    eta: int = Field(3, ge=2, description="one in so many goes on to the next rung, with so many times the tokens")
    rungs: int = Field(3, ge=1, description="rungs of successive halving")
    tokens: int = Field(400_000, ge=1, description="training tokens of a run on the last rung")
    batch_sizes: tuple[int, ...] = Field((4, 8, 16, 32), description="batch sizes to draw from")


class SpeedSettings(Section):
    rungs: tuple[str, ...] = Field((), description="rungs of the ladder, in order; empty = all that this machine has")
    batch_size: int = Field(16, ge=1, description="packed sequences per optimiser step")
    small_batch: int = Field(2, ge=1, description="sequences per forward pass before the rung that raises it")
    steps: int = Field(8, ge=2, description="measured steps of each rung")
    compare_steps: int = Field(5, ge=1, description="steps whose losses are compared")
