"""What a run will cost, in one line before it starts, and how many rows it takes at once."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from scratch_llm.io import atomic_write
from scratch_llm.models import LanguageModel
from scratch_llm.training import TrainingConfig, choose_dtype, matmul_peak
from scratch_llm.training.gradients import gradients, loss_function
from scratch_llm.training.progress import USUAL_MFU
from scratch_llm.training.ranks import check_shares
from scratch_llm.training.step_memory import StepMemory, StepMemoryEstimate

_LONG_SECONDS = 5.0  # a pass that takes longer is not timed twice
_CGROUP = Path("/sys/fs/cgroup")


def plan_run(model: LanguageModel, config: TrainingConfig, context_length: int, folder: Path, *, auto: bool = False,
             log: Callable[[str], None] = print, n_processes: int = 1, is_first: bool = True) -> TrainingConfig:
    """Tell what the run will cost, and return its settings with the micro-batch chosen where ``auto`` asks for it.

    The choice is kept in ``folder``: a run that goes on takes the one it began with, since sums over other pieces round
    otherwise.  Where the micro-batch was given and will not fit, a line says so; training goes on all the same.

    Of several processes each computes its share of the batch in its share of the memory, and all must take the choice of the
    first.  FSDP, which keeps only parts of the weights, needs less than is told here.

    Raises:
        ValueError: ``auto``, and not even one row fits.
    """
    device = model.device
    check_shares(config.batch_size, n_processes)
    share = dataclasses.replace(config, batch_size=config.batch_size // n_processes, micro_batch_size=None)
    estimate = StepMemoryEstimate(model, share, context_length, choose_dtype(config.precision, device)[0])
    free = free_memory(device)
    if device.type == "cpu":
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if n_processes > 1 else 1
    if auto:
        rows, reason = _choose(estimate, free, folder / "micro-batch.json", keep=is_first)
        config = dataclasses.replace(config, micro_batch_size=rows)
        log(f"micro_batch_size {rows}: {reason}")
    memory = estimate.of(min(config.micro_batch_size, share.batch_size))
    seconds = step_seconds(model, config, context_length) if n_processes == 1 and memory.to_come <= free else None
    line = summary(model, config, context_length, memory, free, seconds) + (" for each process" if n_processes > 1 else "")
    log(line)
    if is_first:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "run.json") as stream:  # for those who watch
            json.dump({"steps": config.steps, "summary": line}, stream, ensure_ascii=False)
    if memory.to_come > free:
        log(f"warning: that is more than the {_size(free)} that are free; pretrain.micro_batch_size=auto takes what fits, "
            f"pretrain.gradient_checkpointing=true needs less")
    return config


def summary(model: LanguageModel, config: TrainingConfig, context_length: int, memory: StepMemory, free: int,
            seconds_a_step: float | None = None) -> str:
    """Parameters, tokens, operations, time and memory by part, in one line; without ``seconds_a_step`` the time is a guess."""
    device = model.device
    tokens = config.steps * config.batch_size * context_length
    flops = float(model.flops_per_token(context_length, training=True)) * tokens
    if seconds_a_step is None:
        seconds = flops / (USUAL_MFU * matmul_peak(device.type, choose_dtype(config.precision, device)[0]))
        seconds *= 4 / 3 if model.gradient_checkpointing else 1  # the forward pass once more
        how = f"at {USUAL_MFU:.0%} of the machine's peak"
    else:
        seconds, how = seconds_a_step * config.steps, "judged by a step just now"
    parts = ", ".join(f"{name} {_size(value)}" for name, value in memory.parts().items())
    return (f"plan: {model.n_parameters() / 1e6:,.1f} M parameters, {tokens / 1e6:,.1f} M tokens, {flops / 1e12:,.1f} TFLOP, "
            f"about {_time(seconds)} {how}; memory {_size(memory.resident)} ({parts}, the rest the allocator's), {_size(free)} free")


def step_seconds(model: LanguageModel, config: TrainingConfig, context_length: int) -> float:
    """Seconds of a step of ``config`` as this machine is now, from passes over one made-up micro-batch; ``model`` is left as it was.

    Evaluations, the optimiser's own work and what compiling saves are not in it.
    """
    device, rows = model.device, config.micro_batch_size
    piece = dataclasses.replace(config, batch_size=rows)
    compute_loss = loss_function(model, device, choose_dtype(config.precision, device)[0], compiled=False)
    ids = torch.zeros(rows, context_length, dtype=torch.long) + torch.arange(context_length) % model.config.vocab_size
    buffers, was_training = [(buffer, buffer.clone()) for buffer in model.buffers()], model.training
    best = float("inf")
    with torch.random.fork_rng():
        model.train()
        for _ in range(3):  # the first one warms up
            started = time.perf_counter()
            gradients(compute_loss, model, (ids, ids), piece)  # it reads the loss: a GPU has finished then
            took = time.perf_counter() - started
            model.zero_grad(set_to_none=True)
            best = min(best, took)
            if took > _LONG_SECONDS:
                break
        model.train(was_training)
    with torch.no_grad():  # routers count their visitors
        for buffer, before in buffers:
            buffer.copy_(before)
    return best * config.batch_size / rows


def free_memory(device: str | torch.device = "cpu") -> int:
    """Bytes that a new allocation can still have: of the GPU, or of the machine and the container's limit."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available = psutil.virtual_memory().available
    limit = _cgroup_free()
    return available if limit is None else min(available, limit)


def _cgroup_free(folder: Path = _CGROUP) -> int | None:
    """What a container's limit (cgroup version 2) leaves; None where there is none.  Cached files give way."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used + int(facts.get("inactive_file", 0)))


def _choose(estimate: StepMemoryEstimate, free: int, record: Path, keep: bool) -> tuple[int, str]:
    batch_size = estimate.config.batch_size
    try:
        rows = json.loads(record.read_text(encoding="utf-8"))["micro_batch_size"]
        # It may be more than a process's share, if fewer shared the batch before: that takes its rows at once.
        if isinstance(rows, int) and rows >= 1 and (batch_size % rows == 0 or rows % batch_size == 0):
            return rows, "as before the interruption"
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a new run, or a record that a kill cut
    rows, memory = estimate.largest_that_fits(free)
    if keep:
        record.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(record) as stream:
            json.dump({"micro_batch_size": rows, "needs": memory.to_come, "free": free}, stream)
    if rows == batch_size:
        return rows, f"the whole batch needs {_size(memory.to_come)} more, {_size(free)} are free"
    larger = next(n for n in range(rows + 1, batch_size + 1) if batch_size % n == 0)
    return rows, (f"the largest divisor of {batch_size} that fits: it needs {_size(memory.to_come)} more, {larger} rows "
                  f"{_size(estimate.of(larger).to_come)}, and {_size(free)} are free")


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"


def _time(seconds: float) -> str:
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"
