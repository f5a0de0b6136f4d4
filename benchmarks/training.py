"""Training speed against transformers, litgpt and llms-from-scratch: the same batch, shape and optimiser.

    python benchmarks/training.py [--quick]

Shape: 6 layers, d_model 384, 6 heads, d_ff 1024 (GPT-2 kind: 1536), vocabulary 8192, batch 16 x 256 tokens.  A
step is forward, loss, backward, clipping to norm 1, fused AdamW, and the loss read out.  Every contender has a
process of its own.  First each runs alone in each of its modes (float32 or bfloat16, eager or compiled); then the
best mode of each runs again, all in turns, round by round, and the medians are compared.  Peers also try weights
in bfloat16 ("bf16-true"), which is faster and less exact; ours always keeps float32 weights.

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
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

REPOSITORY = Path(__file__).resolve().parents[1]
PEERS = Path(os.environ.get("BENCH_PEERS", REPOSITORY / ".envs" / "bench"))
INSTALL = ".venv/bin/python -m pip install --no-deps --target .envs/bench -r environments/bench.txt"
BATCH, CONTEXT, VOCAB, LAYERS, HEADS, WIDTH, HIDDEN = 16, 256, 8192, 6, 6, 384, 1024
SPEED_TARGET, MFU_TARGET = 1.2, 0.5


# -- contenders: each returns (model, function of (tokens, targets) giving the mean loss) ------------------------------


def ours_llama():
    from scratch_llm.models import LlamaConfig, build_model

    return build_model(LlamaConfig(vocab_size=VOCAB, context_length=CONTEXT, n_layers=LAYERS, n_heads=HEADS, d_model=WIDTH,
                                   d_ff=HIDDEN)), None


def ours_gpt2():
    from scratch_llm.models import GPT2Config, build_model

    return build_model(GPT2Config(vocab_size=VOCAB, context_length=CONTEXT, n_layers=LAYERS, n_heads=HEADS, d_model=WIDTH)), None


def transformers_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, max_position_embeddings=CONTEXT, tie_word_embeddings=True, use_cache=False))
    return model, lambda x: model(x).logits


def transformers_gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
                                       resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False))
    return model, lambda x: model(x).logits


def litgpt_llama():
    from litgpt import GPT, Config

    model = GPT(Config(
        block_size=CONTEXT, vocab_size=VOCAB, padded_vocab_size=VOCAB, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH,
        rotary_percentage=1.0, parallel_residual=False, bias=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
        intermediate_size=HIDDEN))
    model.lm_head.weight = model.transformer.wte.weight
    return model, model


def llms_from_scratch_gpt():
    from llms_from_scratch.ch04 import GPTModelFast

    model = GPTModelFast({"vocab_size": VOCAB, "context_length": CONTEXT, "emb_dim": WIDTH, "n_heads": HEADS,
                          "n_layers": LAYERS, "drop_rate": 0.0, "qkv_bias": False})
    model.out_head.weight = model.tok_emb.weight
    return model, model


def llms_from_scratch_llama():
    from llms_from_scratch.llama3 import Llama3ModelFast

    model = Llama3ModelFast({"vocab_size": VOCAB, "context_length": CONTEXT, "emb_dim": WIDTH, "n_heads": HEADS,
                             "n_layers": LAYERS, "hidden_dim": HIDDEN, "n_kv_groups": HEADS, "rope_base": 10_000.0,
                             "rope_freq": None, "dtype": torch.float32})
    model.out_head.weight = model.tok_emb.weight
    return model, model


CONTENDERS = {
    "ours, Llama": (ours_llama, "scratch_llm"),
    "ours, GPT-2": (ours_gpt2, "scratch_llm"),
    "transformers Llama": (transformers_llama, "transformers"),
    "transformers GPT-2": (transformers_gpt2, "transformers"),
    "litgpt Llama": (litgpt_llama, "litgpt"),
    "llms-from-scratch Llama": (llms_from_scratch_llama, "llms_from_scratch"),
    "llms-from-scratch GPT": (llms_from_scratch_gpt, "llms_from_scratch"),
}
PRECISIONS = ("float32", "bf16", "bf16-true")


# -- one contender in one mode, in a process of its own ------------------------------------------------------------


class Worker:
    """A contender's process; ``ask`` sends one command and waits for its answer."""

    def __init__(self, name: str, precision: str, compiled: bool):
        self.name, self.mode = name, f"{precision} {'compiled' if compiled else 'eager'}"
        # The peers come last in the path: what the core environment holds is shared, so torch is the same.
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", name, precision, str(int(compiled))], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)

    def ask(self, command: str, number: float = 0) -> dict:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{command} {number}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            lines = self._process.stderr.read().strip().splitlines() or ["no message"]
            raise RuntimeError(lines[-1])
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
    build = CONTENDERS[name][0]
    model, logits_of = build()
    step = our_step(model, precision, compiled) if logits_of is None else peer_step(model, logits_of, precision, compiled)
    generator = torch.Generator().manual_seed(0)
    for line in sys.stdin:
        command, number = line.split()
        if command == "steps":
            answer = {"seconds": [], "loss": 0.0}
            for _ in range(round(float(number))):
                tokens = torch.randint(VOCAB, (BATCH, CONTEXT + 1), generator=generator)
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


def our_step(model, precision: str, compiled: bool):
    """What ``scratch_llm.training.train`` does in a step, by its own functions."""
    from scratch_llm.training import TrainingConfig, parameter_groups
    from scratch_llm.training.allocator import keep_freed_memory
    from scratch_llm.training.loop import gradients, loss_function

    keep_freed_memory()
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    config = TrainingConfig(steps=1, batch_size=BATCH)
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


def run(quick: bool = False, precisions: tuple[str, ...] = PRECISIONS, compilations: tuple[bool, ...] = (False, True)) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}, best mode of each in tokens per second."""
    names, missing = installed()
    for name in missing:
        print(f"SKIPPED {name}: not installed ({INSTALL})", flush=True)
    speeds = screen(names, ("bf16",) if quick else precisions, (False,) if quick else compilations, steps=2 if quick else 4)
    print(f"\n{mode_table(speeds)}\n", flush=True)
    final = interleaved({name: best_mode(modes) for name, modes in speeds.items() if modes}, rounds=1 if quick else 5)
    return rows(final, missing)


def installed() -> tuple[list[str], list[str]]:
    import importlib.util

    sys.path.append(str(PEERS))
    found = {name: importlib.util.find_spec(package) is not None for name, (_, package) in CONTENDERS.items()}
    return [name for name in found if found[name]], [name for name in found if not found[name]]


def screen(names: list[str], precisions: tuple[str, ...], compilations: tuple[bool, ...], steps: int) -> dict[str, dict[tuple[str, bool], float]]:
    """Tokens per second of every contender in every mode, each alone."""
    speeds: dict[str, dict[tuple[str, bool], float]] = {name: {} for name in names}
    for name in names:
        for precision in precisions:
            if precision == "bf16-true" and name.startswith("ours"):
                continue
            for compiled in compilations:
                worker = Worker(name, precision, compiled)
                try:
                    worker.ask("steps", 2)
                    # The fastest step: a mode must not lose its place because something else ran just then.
                    seconds = min(worker.ask("steps", steps)["seconds"])
                    speeds[name][precision, compiled] = BATCH * CONTEXT / seconds
                    print(f"{name:26} {worker.mode:20} {BATCH * CONTEXT / seconds:7,.0f} tok/s", flush=True)
                except RuntimeError as error:
                    print(f"SKIPPED {name}, {worker.mode}: {error}", flush=True)
                worker.close()
    return speeds


def best_mode(modes: dict[tuple[str, bool], float]) -> tuple[str, bool]:
    return max(modes, key=modes.get)


def interleaved(modes: dict[str, tuple[str, bool]], rounds: int) -> dict[str, dict]:
    """The best modes in turns: tokens per second (median over all steps), mode; for ours also the MFU."""
    workers = {name: Worker(name, *mode) for name, mode in modes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    peaks = dict.fromkeys(workers, 0.0)
    facts = {}
    for name, worker in workers.items():
        worker.ask("steps", 2)
        facts[name] = worker.ask("facts")
    for _ in range(rounds):
        for name, worker in workers.items():
            worker.ask("steps", 1)  # wakes the threads after the others' turns
            seconds[name] += worker.ask("steps", 4)["seconds"]
            if name.startswith("ours"):
                peaks[name] = max(peaks[name], worker.ask("peak", 0.5)["peak"])
    for worker in workers.values():
        worker.close()
    result = {}
    for name, worker in workers.items():
        speed = BATCH * CONTEXT / statistics.median(seconds[name])
        flops = facts[name]["flops_per_token"]
        result[name] = {"speed": speed, "mode": worker.mode, "parameters": facts[name]["parameters"], "peak": peaks[name],
                        "mfu": speed * flops / peaks[name] if peaks[name] else None}
    return result


def rows(final: dict, missing: list[str]) -> list[dict]:
    best = final["ours, Llama"]
    found = []
    for name, peer in final.items():
        if name.startswith("ours"):
            continue
        # A GPT-2 shape has other matrices than a Llama one, so each peer meets our model of its own kind.
        ours = best if "Llama" in name else final.get("ours, GPT-2", best)
        found.append({"name": f"training, {name}", "ours": round(ours["speed"]), "peer": round(peer["speed"]), "unit": "tok/s",
                      "ratio": round(ours["speed"] / peer["speed"], 2), "target": SPEED_TARGET,
                      "note": f"ours {ours['mode']}, peer {peer['mode']}"})
    for name in ("ours, Llama", "ours, GPT-2"):
        if name in final:
            one = final[name]
            found.append({"name": f"MFU ({name})", "ours": round(one["mfu"], 3), "peer": 1.0, "unit": "share of peak",
                          "ratio": round(one["mfu"], 3), "target": MFU_TARGET,
                          "note": f"{one['speed']:,.0f} tok/s; matmul peak {one['peak'] / 1e9:,.0f} GFLOP/s, {one['mode']}; "
                                  f"{one['parameters'] / 1e6:.1f} M parameters"})
    found += [{"name": f"training, {name}", "ours": None, "peer": None, "unit": "tok/s", "ratio": None, "target": "",
               "note": f"not installed: {INSTALL}"} for name in missing]
    return found


def mode_table(speeds: dict) -> str:
    """Tokens per second of every contender in every mode, alone on the machine."""
    modes = [(precision, compiled) for precision in PRECISIONS for compiled in (False, True)]
    lines = ["| tok/s | " + " | ".join(f"{p} {'compiled' if c else 'eager'}" for p, c in modes) + " |",
             "|---|" + "---:|" * len(modes)]
    for name, found in speeds.items():
        lines.append(f"| {name} | " + " | ".join(f"{found[mode]:,.0f}" if mode in found else "" for mode in modes) + " |")
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
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="which to try (default: all)")
    parser.add_argument("--compiled-only", action="store_true", help="leave out the eager modes")
    parser.add_argument("--worker", nargs=3, metavar=("NAME", "PRECISION", "COMPILED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, precision, compiled = options.worker
        work(name, precision, compiled == "1")
    else:
        compilations = (True,) if options.compiled_only else (False, True)
        print(markdown(run(options.quick, tuple(options.precisions), compilations)))


if __name__ == "__main__":
    main()
