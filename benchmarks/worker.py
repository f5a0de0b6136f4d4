"""Contenders in processes of their own, which answer how long their steps take: ``Worker`` starts this file and asks it.

    python benchmarks/worker.py "ours llama 15M" bf16 1     # then "steps 3", "facts" or "peak 0.5" on its input
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))

from contenders import PEERS, REPOSITORY, Contender
from shapes import config_of

CONTEXT = 256
BATCHES = {"15M": 16, "100M": 4}
PATIENCE = 150.0  # seconds


class Process:
    """A command that answers questions; ``ask`` puts one and waits for its answer."""

    def __init__(self, command: list[str], patience: float = PATIENCE):
        self.patience = patience
        # The peers come last in the path: what the core environment holds is shared, so torch is the same.
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(REPOSITORY / "src")}
        self._errors = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would stop a worker with much to say
        # A session of its own, so that the compilers which it starts end with it.
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                                         text=True, cwd=REPOSITORY, start_new_session=True)

    def ask(self, command: str, number: float = 0) -> dict:
        late = threading.Event()
        watchdog = threading.Timer(self.patience, lambda: (late.set(), self._kill()))
        watchdog.start()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{command} {number}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if line:
            return json.loads(line)
        raise RuntimeError(f"no answer in {self.patience:g} s (a few steps, and the compilation)" if late.is_set() else self._reason())

    def _reason(self) -> str:
        """What the process said last, an exception if there is one."""
        status = self._process.wait(timeout=60)
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or [f"ended with status {status}, without a message"]
        return next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception|Unsupported)\b", line)), lines[-1])[:200]

    def close(self) -> None:
        self._kill()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._errors.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class Worker(Process):
    """A contender's process."""

    def __init__(self, contender: Contender, precision: str, compiled: bool, patience: float = PATIENCE):
        self.contender, self.mode = contender, mode_name(precision, compiled)
        super().__init__([contender.python, __file__, str(contender), precision, str(int(compiled))], patience)


def mode_name(precision: str, compiled: bool) -> str:
    return f"{precision} {'compiled' if compiled else 'eager'}"


def work(name: str, precision: str, compiled: bool) -> None:
    """The process behind ``Worker``: "steps N" answers the seconds of each step, "peak" the matmul peak."""
    answers = take_output()
    sys.path.append(str(PEERS))
    torch.manual_seed(0)
    contender = Contender.parse(name)
    model, logits_of = contender.build()
    batch, vocab_size = BATCHES[contender.size], config_of(contender.family, contender.size).vocab_size
    step = our_step(model, precision, compiled, batch) if logits_of is None else peer_step(model, logits_of, precision, compiled)
    facts = {"parameters": sum(p.numel() for p in model.parameters()), "flops_per_token": getattr(
        model, "flops_per_token", lambda _: None)(CONTEXT)}
    answer_questions(answers, step, (batch, CONTEXT), vocab_size, precision, facts)


def take_output():
    """The stream of answers; what libraries print goes to the errors instead, for the two must not mix."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def answer_questions(answers, step, shape: tuple[int, int], vocab_size: int, precision: str, facts: dict) -> None:
    """``ask``'s other end: the same random tokens for every contender."""
    rows, context_length = shape
    generator = torch.Generator().manual_seed(0)
    for line in sys.stdin:
        command, number = line.split()
        if command == "steps":
            answer = {"seconds": [], "loss": 0.0}
            for _ in range(round(float(number))):
                tokens = torch.randint(1, vocab_size, (rows, context_length + 1), generator=generator)
                inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
                start = time.perf_counter()
                answer["loss"] = step(inputs, targets)
                answer["seconds"].append(time.perf_counter() - start)
        elif command == "peak":
            from scratch_llm.training import measure_matmul_peak

            dtype = torch.float32 if precision == "float32" else torch.bfloat16
            answer = {"peak": measure_matmul_peak("cpu", dtype, seconds=float(number))}
        else:
            answer = facts
        print(json.dumps(answer), file=answers, flush=True)


def our_step(model, precision: str, compiled: bool, batch: int, device: str = "cpu"):
    """What ``scratch_llm.training.train`` does in a step, by its own functions."""
    from scratch_llm.training import TrainingConfig, parameter_groups
    from scratch_llm.training.allocator import keep_freed_memory
    from scratch_llm.training.gradients import gradients, loss_function

    keep_freed_memory()
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    config = TrainingConfig(steps=1, batch_size=batch)
    compute_loss = loss_function(model, torch.device(device), dtype, compiled)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-4, fused=True)

    def step(inputs, targets):
        loss, _ = gradients(compute_loss, model, (inputs, targets), config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return step


def peer_step(model, logits_of, precision: str, compiled: bool, device: str = "cpu"):
    """The usual step around a peer's model."""
    if precision == "bf16-true":
        model.bfloat16()
        if isinstance(getattr(model, "cfg", None), dict):
            model.cfg["dtype"] = torch.bfloat16  # llms-from-scratch converts to it before the output layer

    def compute_loss(inputs, targets):
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            return F.cross_entropy(logits_of(inputs).flatten(0, 1), targets.flatten())

    compute_loss = torch.compile(compute_loss) if compiled else compute_loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    model.train()

    def step(inputs, targets):
        loss = compute_loss(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], sys.argv[3] == "1")
