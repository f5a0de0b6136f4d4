"""What one GPU does: parity with the CPU, training MFU of the 124M GPT-2 shape, decoding at batch 1 and 64.

    python benchmarks/gpu.py [--parts parity training decode] [--batch 32]
    python benchmarks/gpu.py --device cpu --quick      # tiny shapes: checks that it runs

parity    every family of ``shapes.py`` at 15M: logits on the GPU against float32 on the CPU, in float32 (TF32 off) and
          bfloat16, and the share of positions at which the likeliest token is the same.
training  our training step (compiled, bfloat16 products, loss in chunks) and nanoGPT's method (the whole logits, float32
          cross-entropy of them, torch.compile, bfloat16 autocast, fused AdamW) on transformers' GPT-2: MFU of the dense
          bfloat16 peak in the data sheet (the measured matmul peak where the device is not in our table).
decode    new tokens per second of the 124M shape in bfloat16 against ``generate`` of transformers.

It is not part of ``make bench``, which runs on the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from generation import compare, peer_of
from run import header, table
from shapes import SHAPES, config_of, transformers_config
from worker import our_step, peer_step

from llm_workshop.errors import install_one_line_errors
from scratch_llm.analysis.devices import nominal_peak
from scratch_llm.models import build_model, gpt2_preset
from scratch_llm.training import measure_matmul_peak

PARTS = ("parity", "training", "decode")
# Largest difference of logits allowed: float32 sums in another order; bfloat16 has 8 bits.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.15}
MFU_TARGET = 0.5


def shape_name(quick: bool) -> str:
    """How the tables name it."""
    return "tiny gpt2" if quick else "gpt2 124M"


def gpt2_shape(quick: bool):
    """The 124M shape, its vocabulary rounded up to a multiple of 128 as nanoGPT does; or a tiny one."""
    if not quick:
        return gpt2_preset("124M", vocab_size=50304)
    return gpt2_preset("124M", n_layers=2, d_model=64, n_heads=4, context_length=64, vocab_size=512, bos_token_id=None, eos_token_id=None)


# -- parity ----------------------------------------------------------------------------------------------------------


def parity(device: str, quick: bool) -> list[dict]:
    """A row per family and dtype: the largest difference of logits, its tolerance, equal likeliest tokens."""
    torch.backends.cuda.matmul.allow_tf32 = False
    found = []
    for family in list(SHAPES)[: 2 if quick else None]:
        config = config_of(family, "15M")
        tokens = torch.randint(1, config.vocab_size, (2, 64), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = build_model(config, seed=0).eval()(tokens).float()
            for dtype, tolerance in TOLERANCES.items():
                there = build_model(config, seed=0).to(device, dtype).eval()
                logits = there(tokens.to(device)).float().cpu()
                difference = (logits - expected).abs().max().item()
                same = (logits.argmax(-1) == expected.argmax(-1)).float().mean().item()
                found.append({"name": f"parity, {family}, {str(dtype)[6:]}", "ours": difference, "peer": tolerance, "unit": "logit",
                              "ratio": tolerance / max(difference, tolerance / 1000), "target": 1.0,
                              "note": f"largest difference from float32 on the CPU, and what is allowed; {same:.1%} of likeliest tokens equal"})
    return found


# -- training --------------------------------------------------------------------------------------------------------


def training(device: str, quick: bool, batch: int) -> list[dict]:
    """Ours against nanoGPT's method, in turns; then the MFU of both."""
    config = gpt2_shape(quick)
    model = build_model(config, seed=0).to(device)
    steps = {"ours": our_step(model, "bf16", not quick, batch, device),
             "nanoGPT's method": nanogpt_step(config, device, not quick)}
    speeds = step_speeds(steps, config, device, batch, rounds=1 if quick else 5)
    peak = nominal_peak(device, torch.bfloat16)
    source = "data sheet" if peak else "measured"
    peak = peak or measure_matmul_peak(device, torch.bfloat16)
    needed = model.flops_per_token(config.context_length)
    ours, theirs = speeds.values()
    rows = [{"name": f"training, {shape_name(quick)}", "ours": ours, "peer": theirs, "unit": "tok/s", "ratio": ours / theirs, "target": 1.0,
             "note": f"peer: nanoGPT's method on transformers; batch {batch} x {config.context_length}"}]
    rows += [{"name": f"MFU, {who}", "ours": speed * needed / peak, "peer": 1.0, "unit": "share of peak", "ratio": speed * needed / peak,
              "target": MFU_TARGET if who == "ours" else None, "note": f"of {peak / 1e12:,.1f} TFLOP/s bfloat16, dense ({source})"}
             for who, speed in speeds.items()]
    return rows


def nanogpt_step(config, device: str, compiled: bool) -> Callable:
    from transformers import AutoModelForCausalLM

    theirs = transformers_config(config)
    theirs.use_cache = False
    model = AutoModelForCausalLM.from_config(theirs).to(device)
    return peer_step(model, lambda x: model(x).logits, "bf16", compiled, device)


def step_speeds(steps: dict[str, Callable], config, device: str, batch: int, rounds: int) -> dict[str, float]:
    """Tokens per second of each step function, the median of its turns."""
    generator = torch.Generator().manual_seed(0)
    seconds: dict[str, list[float]] = {who: [] for who in steps}

    def run(step: Callable, n_steps: int) -> float:
        start = time.perf_counter()
        for _ in range(n_steps):
            tokens = torch.randint(1, config.vocab_size, (batch, config.context_length + 1), generator=generator).to(device)
            step(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())  # reads the loss out, so it waits for the device
        return (time.perf_counter() - start) / n_steps

    for step in steps.values():
        run(step, 3)
    for _ in range(rounds):
        for who, step in steps.items():
            seconds[who].append(run(step, 10 if rounds > 1 else 1))
    return {who: batch * config.context_length / statistics.median(times) for who, times in seconds.items()}


# -- decode ----------------------------------------------------------------------------------------------------------


def decode(device: str, quick: bool) -> list[dict]:
    """A row per batch size: tokens per second of all rows together."""
    model = build_model(gpt2_shape(quick), seed=0).to(device, torch.bfloat16).eval()
    peer = peer_of(model).to(device)
    rows = []
    for batch_size in (1, 64):
        measured = compare(model, peer, batch_size, 8 if quick else 256, rounds=1 if quick else 3)
        ratio = statistics.median(a / b for a, b in zip(measured.ours, measured.theirs))
        ours, theirs = (statistics.median(speeds) for speeds in (measured.ours, measured.theirs))
        rows.append({"name": f"decode, {shape_name(quick)}, bfloat16, batch {batch_size}", "ours": ours, "peer": theirs,
                     "unit": "tok/s", "ratio": ratio, "target": 2.0,
                     "note": f"peer transformers; {measured.equal:.0%} of tokens equal"})
    return rows


def run(parts: list[str], device: str = "cuda", quick: bool = False, batch: int = 32) -> list[dict]:
    """The rows of the parts asked for."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("no CUDA device answers here: run on a machine with an NVIDIA GPU, or check the code with --device cpu --quick")
    if batch < 1:
        raise ValueError(f"--batch {batch}: use a whole number of at least 1")
    makers = {"parity": lambda: parity(device, quick), "training": lambda: training(device, quick, batch),
              "decode": lambda: decode(device, quick)}
    return [row for part in parts for row in makers[part]()]


def main() -> None:
    install_one_line_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ...; cpu checks the code with --quick (default: cuda)")
    parser.add_argument("--batch", type=int, default=32, help="sequences of 1,024 tokens per training step (default: 32)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, one round: a check that it runs, not a measurement")
    options = parser.parse_args()
    rows = run(options.parts, options.device, options.quick, options.batch)
    print(f"{header()}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
