"""What the processes of tests/scratch_llm/training/test_distributed.py do: the jobs in a JSON file, one after the other.

A job: ``model`` (a name of TINY), ``strategy``, ``folder``, ``values`` (of TrainingConfig), and what else ``run_job`` reads.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scratch_llm.data import IGNORE, TokenFile, Windows
from scratch_llm.models import build_model
from scratch_llm.peft import LoRAConfig, inject
from scratch_llm.training import TrainingConfig, train
from scratch_llm.training.all_reduce import central_all_reduce, ring_all_reduce
from scratch_llm.training.distributed import join_ranks
from scratch_llm.training.ranks import ALONE, Ranks
from support.tiny_configs import TINY

VALUES = {"steps": 12, "batch_size": 8, "precision": "float32", "compile": "off", "learning_rate": 1e-2, "warmup_steps": 2,
          "eval_every": 4, "save_every": 4, "eval_batches": 3, "log_every": 1}


class UnevenWindows(Windows):
    """The second half of each batch has hardly any targets, in its second half none at all."""

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = super().batch(step)
        targets[self.batch_size // 2 :, 3:] = IGNORE
        targets[3 * self.batch_size // 4 :] = IGNORE
        return inputs, targets


class FaultyWindows(Windows):
    """Batch 9 is bad in its second half alone, the share of the last rank: see ``breaks``."""

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = super().batch(step)
        if step == 9:
            inputs[self.batch_size // 2 :] = 62
        return inputs, targets


WINDOWS = {"plain": Windows, "uneven": UnevenWindows, "faulty": FaultyWindows}


def breaks(model: nn.Module) -> nn.Module:
    """The model, with a loss of nan where a row is nothing but 62."""
    kind = type(model)

    def forward(self, tokens: torch.Tensor, *values: Any, **options: Any) -> torch.Tensor:
        return kind.forward(self, tokens, *values, **options) * (float("nan") if (tokens == 62).all(dim=1).any() else 1.0)

    # A class, not a method of this one object: FSDP works on a copy.
    model.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    return model


def make_model(job: dict[str, Any]) -> nn.Module:
    model = build_model(dataclasses.replace(TINY[job["model"]], vocab_size=64, **job.get("shape", {})), seed=0)
    model.gradient_checkpointing = job.get("checkpointing", False)
    if job.get("lora"):
        torch.manual_seed(1)
        inject(model, LoRAConfig(rank=4))
    return breaks(model) if job.get("windows") == "faulty" else model


def run_job(job: dict[str, Any], ranks: Ranks = ALONE) -> dict[str, Any]:
    """Train as the job says; facts for the test, and the weights in ``<folder>/weights.pt``."""
    folder = Path(job["folder"])
    windows = [WINDOWS[job.get("windows", "plain")](TokenFile(folder.parent / name), 16, 8, packing="documents") for name in ("train", "valid")]
    model, lines, calls = make_model(job), [], []
    stop_at = job.get("stop_at")

    def log(line: str) -> None:
        lines.append(line)
        if stop_at and line.startswith("step ") and int(line.split("/")[0].split()[1]) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    def on_eval(model: nn.Module, step: int) -> None:
        with torch.no_grad():  # a call by one process alone
            calls.append((model.training, step, float(model(torch.arange(8)[None]).abs().sum())))

    config = TrainingConfig(**VALUES | job.get("values", {}))
    try:
        train(model, *windows, config, folder, log=log, on_eval=on_eval, ranks=ranks)
    except KeyboardInterrupt:
        return {"interrupted": True, "lines": lines}
    torch.save(model.state_dict(), folder / f"weights-{ranks.rank}.pt")
    return {"lines": lines, "calls": calls, "class": type(model).__name__}


def trouble(job: dict[str, Any], ranks: Ranks) -> None:
    """A run that ends badly on rank 1: it is killed, hangs, or fails in its own way at step 6."""
    folder = Path(job["folder"])
    windows = [Windows(TokenFile(folder.parent / name), 16, 8, packing="documents") for name in ("train", "valid")]
    real = windows[0].batch

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step == 6 and ranks.rank == 1:
            (folder.parent / "death").touch()
            if job["how"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if job["how"] == "hang":
                time.sleep(1000)
            raise ValueError("the token file is cut off at 17 bytes")
        return real(step)

    windows[0].batch = batch
    train(make_model(job), *windows, TrainingConfig(**VALUES | job.get("values", {})), folder, log=lambda line: None, ranks=ranks)


def sums(ranks: Ranks) -> list:
    """Sums of tensors of several sizes by each way, and the bytes sent; rank r has r + 1, 2 (r + 1), …"""
    found = []
    for way in (ring_all_reduce, central_all_reduce):
        for size in (1, 5, 12):
            tensor = (ranks.rank + 1) * torch.arange(1.0, size + 1).view(-1, 1)
            sent = way(tensor)
            found.append([way.__name__, size, tensor.flatten().tolist(), sent])
    return found


def main() -> None:
    torch.set_num_threads(1)
    path = Path(sys.argv[1])
    plan = json.loads(path.read_text(encoding="utf-8"))
    results = []
    with join_ranks(plan["strategy"], timeout_seconds=plan.get("timeout", 120.0)) as ranks:
        for job in plan["jobs"]:
            if "sums" in job:
                results.append(sums(ranks))
            elif "how" in job:
                trouble(job, ranks)
            else:
                results.append(run_job(job, ranks))
        path.with_suffix(f".rank{ranks.rank}.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    from llm_workshop.errors import install_one_line_errors

    install_one_line_errors()
    main()
