"""Training speed against transformers, litgpt and llms-from-scratch: the same batch, shape and optimiser.

    python benchmarks/training.py [--models llama gpt2] [--sizes 15M 100M] [--quick]

Shapes: ``shapes.py``; batch 16 x 256 tokens (4 x 256 at 100M).  A step is forward, loss, backward, clipping to norm 1, fused
AdamW, and the loss read out.  Every contender has a process of its own.  First each runs alone in each of its modes
(float32 or bfloat16, eager or compiled); then the best mode of each runs again, all in turns, round by round, and the
medians are compared.  Peers also try weights in bfloat16 ("bf16-true"), which is faster and less exact; ours always
keeps float32 weights.

MFU = FLOP/s that the model needs (products only, attention over the whole square) / matmul peak measured in the
same process between the rounds.

litgpt and llms-from-scratch pin other versions than the core environment, so they go beside it, once:

    .venv/bin/python -m pip install --no-deps --target .envs/bench -r environments/bench.txt

A peer that is not installed is left out, and said to be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))

from contenders import OURS, PEERS, REPOSITORY, Contender, contenders
from shapes import SHAPES, SIZES, check_families, config_of

INSTALL = ".venv/bin/python -m pip install --no-deps --target .envs/bench -r environments/bench.txt"
CONTEXT = 256
BATCHES = {"15M": 16, "100M": 4}
MFU_TARGET = 0.5
PATIENCE = 150  # seconds; a recurrence written as a loop over time compiles for hours
PRECISIONS = ("float32", "bf16", "bf16-true")


def speed_target(family: str) -> float:
    """What our speed over the peer's should be."""
    return {"llama": 1.2, "gpt2": 1.2, "qwen3_moe": 1.5, "deepseek_v3": 1.5}.get(family, 1.1)


# -- one contender in one mode, in a process of its own ------------------------------------------------------------


class Worker:
    """A contender's process; ``ask`` sends one command and waits for its answer."""

    def __init__(self, contender: Contender, precision: str, compiled: bool):
        self.contender, self.mode = contender, f"{precision} {'compiled' if compiled else 'eager'}"
        # The peers come last in the path: what the core environment holds is shared, so torch is the same.
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", str(contender), precision, str(int(compiled))], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)

    def ask(self, command: str, number: float = 0) -> dict:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{command} {number}\n")
            self._process.stdin.flush()
        watchdog = threading.Timer(PATIENCE, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            lines = self._process.stderr.read().strip().splitlines() or ["no message"]
            late = self._process.wait(timeout=60) == -signal.SIGKILL
            raise RuntimeError(f"no answer in {PATIENCE} s (a few steps, and the compilation)" if late else lines[-1])
        return json.loads(line)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        # Its stderr must be drained, or a worker with much to say never ends.
        self._process.stderr.read()
        self._process.wait(timeout=60)


def work(name: str, precision: str, compiled: bool) -> None:
    """The process behind ``Worker``: "steps N" answers the seconds of each step, "peak" the matmul peak."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    sys.path.append(str(PEERS))
    torch.manual_seed(0)
    contender = Contender.parse(name)
    model, logits_of = contender.build()
    batch, vocab_size = BATCHES[contender.size], config_of(contender.family, contender.size).vocab_size
    step = our_step(model, precision, compiled, batch) if logits_of is None else peer_step(model, logits_of, precision, compiled)
    generator = torch.Generator().manual_seed(0)
    for line in sys.stdin:
        command, number = line.split()
        if command == "steps":
            answer = {"seconds": [], "loss": 0.0}
            for _ in range(round(float(number))):
                tokens = torch.randint(1, vocab_size, (batch, CONTEXT + 1), generator=generator)
                inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
                start = time.perf_counter()
                answer["loss"] = step(inputs, targets)
                answer["seconds"].append(time.perf_counter() - start)
        elif command == "peak":
            from scratch_llm.training import measure_matmul_peak

            dtype = torch.float32 if precision == "float32" else torch.bfloat16
            answer = {"peak": measure_matmul_peak("cpu", dtype, seconds=float(number))}
        else:
            answer = {"parameters": sum(p.numel() for p in model.parameters()), "flops_per_token": getattr(
                model, "flops_per_token", lambda _: None)(CONTEXT)}
        print(json.dumps(answer), file=answers, flush=True)


def our_step(model, precision: str, compiled: bool, batch: int):
    """What ``scratch_llm.training.train`` does in a step, by its own functions."""
    from scratch_llm.training import TrainingConfig, parameter_groups
    from scratch_llm.training.allocator import keep_freed_memory
    from scratch_llm.training.loop import gradients, loss_function

    keep_freed_memory()
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    config = TrainingConfig(steps=1, batch_size=batch)
    compute_loss = loss_function(model, torch.device("cpu"), dtype, compiled)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-4, fused=True)

    def step(inputs, targets):
        loss, _ = gradients(compute_loss, model, (inputs, targets), config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return step


def peer_step(model, logits_of, precision: str, compiled: bool):
    """The usual step around a peer's model."""
    if precision == "bf16-true":
        model.bfloat16()
        if isinstance(getattr(model, "cfg", None), dict):
            model.cfg["dtype"] = torch.bfloat16  # llms-from-scratch converts to it before the output layer

    def compute_loss(inputs, targets):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
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


# -- the comparison ------------------------------------------------------------------------------------------------


def run(quick: bool = False, families: list[str] | None = None, sizes: tuple[str, ...] = ("15M",),
        precisions: tuple[str, ...] = PRECISIONS, compilations: tuple[bool, ...] = (False, True)) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}, best mode of each in tokens per second."""
    check_families(families or ())
    found = []
    for size in sizes:
        for family in families or list(SHAPES):
            there, missing = contenders([family], [size])
            for one in missing:
                print(f"SKIPPED {one}: not installed ({INSTALL})", flush=True)
            speeds = screen(there, ("bf16",) if quick else precisions, (False,) if quick else compilations,
                            steps=2 if quick else 4)
            print(f"\n{mode_table(speeds)}\n", flush=True)
            best = {one: best_mode(modes) for one, modes in speeds.items() if modes}
            found += rows(interleaved(best, rounds=1 if quick else 5), missing)
    return found


def screen(there: list[Contender], precisions: tuple[str, ...], compilations: tuple[bool, ...],
           steps: int) -> dict[Contender, dict[tuple[str, bool], float]]:
    """Tokens per second of every contender in every mode, each alone."""
    speeds: dict[Contender, dict[tuple[str, bool], float]] = {one: {} for one in there}
    for one in there:
        n_tokens = BATCHES[one.size] * CONTEXT
        for precision in precisions:
            if precision == "bf16-true" and one.who == OURS:
                continue
            for compiled in compilations:
                worker = Worker(one, precision, compiled)
                try:
                    worker.ask("steps", 2)
                    # The fastest step: a mode must not lose its place because something else ran just then.
                    seconds = min(worker.ask("steps", steps)["seconds"])
                    speeds[one][precision, compiled] = n_tokens / seconds
                    print(f"{one!s:32} {worker.mode:20} {n_tokens / seconds:7,.0f} tok/s", flush=True)
                except RuntimeError as error:
                    print(f"SKIPPED {one}, {worker.mode}: {error}", flush=True)
                worker.close()
    return speeds


def best_mode(modes: dict[tuple[str, bool], float]) -> tuple[str, bool]:
    return max(modes, key=modes.get)


def interleaved(modes: dict[Contender, tuple[str, bool]], rounds: int) -> dict[Contender, dict]:
    """The best modes in turns: tokens per second (median over all steps), mode; for ours also the MFU."""
    workers = {one: Worker(one, *mode) for one, mode in modes.items()}
    seconds: dict[Contender, list[float]] = {one: [] for one in workers}
    peaks = dict.fromkeys(workers, 0.0)
    facts = {}
    for one, worker in workers.items():
        worker.ask("steps", 2)
        facts[one] = worker.ask("facts")
    for _ in range(rounds):
        for one, worker in workers.items():
            worker.ask("steps", 1)  # wakes the threads after the others' turns
            seconds[one] += worker.ask("steps", 4)["seconds"]
            if one.who == OURS:
                peaks[one] = max(peaks[one], worker.ask("peak", 0.5)["peak"])
    for worker in workers.values():
        worker.close()
    result = {}
    for one, worker in workers.items():
        speed = BATCHES[one.size] * CONTEXT / statistics.median(seconds[one])
        flops = facts[one]["flops_per_token"]
        result[one] = {"speed": speed, "mode": worker.mode, "parameters": facts[one]["parameters"], "peak": peaks[one],
                       "mfu": speed * flops / peaks[one] if peaks[one] else None}
    return result


def rows(final: dict[Contender, dict], missing: list[Contender]) -> list[dict]:
    """The table: each peer against our model of its own family and size, then our MFU."""
    found = []
    for one, peer in final.items():
        ours = final.get(Contender(OURS, one.family, one.size))
        if one.who == OURS or ours is None:
            continue
        found.append({"name": f"training, {one}", "ours": round(ours["speed"]), "peer": round(peer["speed"]), "unit": "tok/s",
                      "ratio": round(ours["speed"] / peer["speed"], 2), "target": speed_target(one.family),
                      "note": f"ours {ours['mode']}, peer {peer['mode']}"})
    for one, ours in final.items():
        if one.who == OURS:
            found.append({"name": f"MFU, {one}", "ours": round(ours["mfu"], 3), "peer": 1.0, "unit": "share of peak",
                          "ratio": round(ours["mfu"], 3),
                          "target": MFU_TARGET if one.family in ("llama", "gpt2") else None,
                          "note": f"{ours['speed']:,.0f} tok/s; matmul peak {ours['peak'] / 1e9:,.0f} GFLOP/s, {ours['mode']}; "
                                  f"{ours['parameters'] / 1e6:.1f} M parameters"})
    found += [{"name": f"training, {one}", "ours": None, "peer": None, "unit": "tok/s", "ratio": None, "target": "",
               "note": f"not installed: {INSTALL}"} for one in missing]
    return found


def mode_table(speeds: dict) -> str:
    """Tokens per second of every contender in every mode, alone on the machine."""
    modes = [(precision, compiled) for precision in PRECISIONS for compiled in (False, True)]
    lines = ["| tok/s | " + " | ".join(f"{p} {'compiled' if c else 'eager'}" for p, c in modes) + " |",
             "|---|" + "---:|" * len(modes)]
    for one, found in speeds.items():
        lines.append(f"| {one} | " + " | ".join(f"{found[mode]:,.0f}" if mode in found else "" for mode in modes) + " |")
    return "\n".join(lines)


def markdown(found: list[dict]) -> str:
    def cell(value) -> str:
        return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)

    lines = ["| what | ours | peer | unit | ratio | target | note |", "|---|---:|---:|---|---:|---|---|"]
    lines += ["| " + " | ".join(cell(row[key]) for key in ("name", "ours", "peer", "unit", "ratio", "target", "note")) + " |"
              for row in found]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="bfloat16 eager only, one round: checks that it runs")
    parser.add_argument("--models", nargs="+", metavar="NAME", help=f"which of {', '.join(SHAPES)} (default: all)")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["15M"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="which to try (default: all)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--compiled-only", action="store_true", help="leave out the eager modes")
    only.add_argument("--eager-only", action="store_true", help="leave out the compiled modes")
    parser.add_argument("--worker", nargs=3, metavar=("NAME", "PRECISION", "COMPILED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, precision, compiled = options.worker
        work(name, precision, compiled == "1")
    else:
        compilations = (True,) if options.compiled_only else (False,) if options.eager_only else (False, True)
        print(markdown(run(options.quick, options.models, options.sizes, tuple(options.precisions), compilations)))


if __name__ == "__main__":
    main()
