"""Train by one method and measure it; run by ``scratch_llm.training.launch`` in each process.

    python -m llm_workshop.distributed.trial METHOD FOLDER --scale smoke
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from llm_workshop.artifacts import Artifacts
from llm_workshop.errors import exit_code_of, install_one_line_errors
from llm_workshop.pipeline.pretrain import model_config, training_windows
from llm_workshop.progress import print_korean
from llm_workshop.settings import Settings, add_dials, load_settings
from scratch_llm.data import Windows
from scratch_llm.io import atomic_write
from scratch_llm.models import build_model
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import TrainingConfig, build_optimizer, train
from scratch_llm.training.distributed import join_ranks
from scratch_llm.training.gradients import gradients, loss_function
from scratch_llm.training.launch import launch
from scratch_llm.training.ranks import ALONE, Ranks, check_shares

#: method: its name in tables and plots, its processes (None: as many as the settings say)
METHODS = {"alone": ("한 프로세스", 1), "hand": ("손으로 쓴 all-reduce", None), "ddp": ("DDP", None), "fsdp": ("FSDP2", None)}
_INPUTS = ("tokenizer", "tokens")
_MEASURED_STEPS = 5


def n_processes(settings: Settings) -> int:
    """How many train together in the lab: the setting, but at least two."""
    return max(2, settings.distributed.processes)


def check_settings(settings: Settings) -> None:
    """ValueError where the batch cannot be shared among the lab's processes."""
    check_shares(settings.pretrain.batch_size, n_processes(settings))


def stage_of(method: str) -> str:
    """Where a trial's figures lie: not among the products of the run."""
    return f".work/distributed-{method}"


def used_settings(settings: Settings) -> dict[str, Any]:
    config = lab_config(settings)
    return {"model": settings.model, "batch_size": config.batch_size, "learning_rate": config.learning_rate,
            "warmup_steps": config.warmup_steps, "steps": config.steps, "processes": n_processes(settings), "seed": settings.seed}


def lab_device(settings: Settings) -> torch.device:
    """Where all methods compute, that of one process, too: a GPU each, or the CPU where there are fewer GPUs than processes."""
    enough = torch.cuda.device_count() >= n_processes(settings)
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if enough else torch.device("cpu")


def lab_config(settings: Settings) -> TrainingConfig:
    """A short run in float32: two ways of adding up are told apart to the sixth decimal only there.

    Its steps are small: one that throws the loss up makes a hundred times as much of what rounding left.
    """
    steps = settings.distributed.steps
    return TrainingConfig(steps=steps, batch_size=settings.pretrain.batch_size, learning_rate=settings.pretrain.learning_rate / 30,
                          warmup_steps=steps // 3, precision="float32", compile="off", eval_every=steps, save_every=max(1, steps // 4), eval_batches=4,
                          log_every=max(1, steps // 4), seed=settings.seed)


def run_trials(artifacts: Artifacts) -> dict[str, dict[str, Any]]:
    """Train and measure every method that is not done yet; what each found, by method.

    Each is a stage of its own (``stage_of``), with its metrics.jsonl.

    Raises ValueError where the batch cannot be shared out, before anything is trained.
    """
    check_settings(artifacts.settings)
    results = {}
    for number, (method, (title, processes)) in enumerate(METHODS.items(), 1):
        stage = stage_of(method)
        print(f"\n[{number}/{len(METHODS)}] {title}", flush=True)
        used = used_settings(artifacts.settings)
        if not artifacts.skip_if_current(stage, used, _INPUTS):
            with artifacts.write_stage(stage, used, _INPUTS) as writer:
                work = artifacts.work(f"distributed-{method}", used, _INPUTS)
                start(method, work, artifacts.settings, processes or n_processes(artifacts.settings))
                writer.metrics.update(json.loads((work / "found.json").read_text(encoding="utf-8")))
                shutil.copy2(work / "metrics.jsonl", writer.folder)
            artifacts.clear_work(f"distributed-{method}")
        results[method] = artifacts.read_manifest(stage)["metrics"]
    return results


def start(method: str, folder: Path, settings: Settings, processes: int, die_at: int | None = None) -> None:
    """One trial in processes of its own; ``die_at``: the last of them is killed before this step (counted from 0).

    Raises LaunchError where one fails.
    """
    changed = [note.split("  (", 1)[0] for note in settings.notes if note.endswith("(set by you)")]
    death = [] if die_at is None else ["--die-at", str(die_at)]
    command = [sys.executable, "-m", "llm_workshop.distributed.trial", *death, method, str(folder), *changed, "--scale",
               settings.scale, "--data", ",".join(settings.data), "--seed", str(settings.seed)]
    launch(command, processes, variables={"PYTHONUNBUFFERED": "1"})


def run_trial(method: str, folder: Path, artifacts: Artifacts, die_at: int | None = None) -> None:
    """What each process does: measure some steps, train, and (the first) leave what was found in ``folder``."""
    settings, config = artifacts.settings, lab_config(artifacts.settings)
    tokenizer = ByteLevelBPE.load(artifacts.require("tokenizer"))
    windows, valid_windows = training_windows(artifacts)
    if die_at is not None:
        windows.batch = _deadly(windows.batch, die_at)
    device = lab_device(settings)
    together = contextlib.nullcontext(ALONE) if method == "alone" else join_ranks(method, settings.distributed.timeout_seconds)

    def new_model() -> nn.Module:
        return build_model(model_config(settings, tokenizer), seed=settings.seed).to(device)

    with together as ranks:
        found = {} if die_at is not None else measure(new_model(), windows, config, ranks)
        result = train(new_model(), windows, valid_windows, config, folder, log=print_korean if die_at is None else _silent, ranks=ranks)
        if ranks.is_first:
            found |= {"valid_loss": result.valid_loss, "training_tokens_per_second": result.tokens_per_second, "threads": torch.get_num_threads()}
            with atomic_write(folder / "found.json") as stream:
                json.dump(found, stream)


def measure(model: nn.Module, windows: Windows, config: TrainingConfig, ranks: Ranks) -> dict[str, float]:
    """Bytes that this process holds, bytes that all send in a step, and tokens per second, over a few steps."""
    learner = ranks.learner(model)
    compute_loss = loss_function(ranks.training_module(learner), next(learner.parameters()).device, torch.float32, compiled=False)
    optimizer = build_optimizer(learner, config)
    times, sent, held = [], [], {}
    for step in range(_MEASURED_STEPS + 1):
        batch = windows.batch(step)
        ranks.wait()
        before, started = loopback_bytes(), time.perf_counter()
        gradients(compute_loss, learner, batch, config, ranks)
        optimizer.step()
        ranks.wait()
        times.append(time.perf_counter() - started)
        sent.append(loopback_bytes() - before)
        held = {
            "weights_bytes": sum(map(local_bytes, learner.parameters())),
            "gradients_bytes": sum(local_bytes(p.grad) for p in learner.parameters() if p.grad is not None),
            "optimizer_bytes": sum(local_bytes(value) for state in optimizer.state.values() for value in state.values()),
        }
        optimizer.zero_grad(set_to_none=True)
        ranks.wait()
    tokens = windows.batch_size * windows.context_length
    # The first step warms up.  Others on this machine use the loopback, too, and the cores: the least counts.
    return held | {"loopback_bytes": min(sent[1:]), "tokens_per_second": tokens / min(times[1:]),
                   "parameters": sum(p.numel() for p in learner.parameters())}


def local_bytes(tensor: Any) -> int:
    """What a tensor occupies in this process: of one that is shared out, the part that is here."""
    if isinstance(tensor, DTensor):
        tensor = tensor.to_local()
    return tensor.nbytes if isinstance(tensor, Tensor) else 0


def loopback_bytes() -> int:
    """Bytes that the loopback device has carried since the machine's start; 0 where Linux does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/dev").read_text(encoding="utf-8").splitlines():
            name, _, counts = line.partition(":")
            if name.strip() == "lo":
                return int(counts.split()[0])
    return 0


def _deadly(batch: Any, step: int) -> Any:
    """Kills the last process when it asks for the batch of ``step``."""

    def wrapped(number: int) -> tuple[Tensor, Tensor]:
        if number == step and int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(number)

    return wrapped


def _silent(line: str) -> None:
    """A run that is shown only for its end."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="One trial of week 5's lab on several processes.")
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die-at", type=int)
    add_dials(parser)
    options = parser.parse_args(argv)
    install_one_line_errors()
    settings = load_settings(options.scale, options.data, options.seed, options.overrides)
    return exit_code_of(lambda: run_trial(options.method, options.folder, Artifacts(settings), options.die_at))


if __name__ == "__main__":
    sys.exit(main())
