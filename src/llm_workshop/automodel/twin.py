"""The same run by our own loop: from the same weights, over the same tokens in the same order."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from llm_workshop.automodel.recipe import Job
from llm_workshop.automodel.runner import Trained
from scratch_llm.data import TokenFile, Windows
from scratch_llm.models import load_model
from scratch_llm.models.base import LanguageModel
from scratch_llm.peft import load_adapter
from scratch_llm.training import train


@dataclass(frozen=True)
class Twin:
    """What our loop gave; losses in nats per token, one for each step."""

    model: LanguageModel
    losses: list[float]
    learning_rates: list[float]
    tokens_per_second: float


def train_twin(job: Job, folder: Path, adapter: Path | None = None, log: Callable[[str], None] = lambda line: None) -> Twin:
    """Run ``job`` in ``scratch_llm.training``; an interrupted run goes on from its checkpoint in ``folder``.

    Args:
        adapter: a folder in PEFT's form with what the adapter is before the first step; needed where the job has one.
    """
    model = load_model(job.weights)
    if job.lora is not None:
        if adapter is None:
            raise ValueError("the job trains an adapter: give the folder of what it begins from")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # AutoModel writes no digest of the base
            load_adapter(model, adapter)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    windows = Windows(TokenFile(job.tokens), job.context_length, job.training.batch_size, seed=job.training.seed, packing=job.packing)
    result = train(model, windows, windows, job.training, folder, log=log)
    lines = [json.loads(line) for line in result.metrics_path.read_text(encoding="utf-8").splitlines()]
    return Twin(model.eval(), [line["loss"] for line in lines], [line["learning_rate"] for line in lines], result.tokens_per_second)


def adapter_start(trained: Trained, folder: Path, target: Path) -> Path:
    """The adapter as AutoModel drew it, before the first step, in PEFT's form; ``folder`` is the one given to ``run_job``."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "result" / "start.safetensors", target / "adapter_model.safetensors")
    shutil.copyfile(trained.checkpoint / "adapter_config.json", target / "adapter_config.json")
    return target


def differences(ours: list[float], theirs: list[float]) -> list[float]:
    """How far the losses are apart, step by step; ValueError where one has more steps."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} steps of ours and {len(theirs)} of AutoModel's cannot be compared")
    return [abs(a - b) for a, b in zip(ours, theirs)]
