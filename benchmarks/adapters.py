"""Fine-tuning steps (``scratch_llm.peft``) against PEFT on transformers: same weights, batch and optimiser.

    python benchmarks/adapters.py [--models llama gpt2] [--methods full lora dora] [--precision float32] [--compiled] [--quick]

Models of 15 million parameters (``shapes.py``), 16 x 256 tokens; all weights, or rank 8 on every linear layer of the
blocks.  A step is forward, loss, backward, clipping to norm 1, fused AdamW on what learns, and the loss read out.  Weights
and adapters go from ours to theirs through files, and the first losses are compared: what differs has no speed.  Both take
turns in one process, and the fastest step of each counts.  (This file is not called ``peft``: Python would find it before
the library.)
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import table
from shapes import check_families, config_of
from worker import our_step, peer_step

from llm_workshop.errors import install_one_line_errors
from scratch_llm.models import build_model
from scratch_llm.peft import LoRAConfig, inject, save_adapter, trainable_parameters
from scratch_llm.training import choose_dtype

FAMILIES, TARGET = ("llama", "gpt2"), 1.3
METHODS = {"full": None, "lora": {}, "dora": {"dora": True}}
BATCH, CONTEXT = 16, 256


def run(
    quick: bool = False, families: tuple[str, ...] = FAMILIES, methods: tuple[str, ...] = tuple(METHODS),
    precision: str = "auto", compiled: bool = False,
) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}, in tokens per second."""
    check_families(families)
    dtype = choose_dtype(precision)[0]
    mode = "float32" if dtype == torch.float32 else "bf16"
    rows = []
    for family in families:
        for method in methods:
            steps, n_learnt = contenders(family, method, mode, compiled)
            speeds = in_turns(steps, config_of(family).vocab_size, rounds=2 if quick else 12, warm_up=1 if quick else 2)
            note = f"{mode}{' compiled' if compiled else ''}, {n_learnt:,} weights learn"
            rows.append({
                "name": f"{method}, {family} 15M, against {'transformers' if method == 'full' else 'PEFT'}", "ours": round(speeds["ours"]), "peer": round(speeds["theirs"]),
                "unit": "tok/s", "ratio": round(speeds["ours"] / speeds["theirs"], 2), "target": TARGET, "note": note,
            })  # fmt: skip
            print(f"{rows[-1]['name']}: {rows[-1]['ours']:,} and {rows[-1]['peer']:,} tok/s", flush=True)
    return rows


def contenders(family: str, method: str, mode: str, compiled: bool) -> tuple[dict, int]:
    """The step of each, on the same weights and adapters; and how many numbers learn."""
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    ours = build_model(config_of(family)).train()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):  # progress of reading
        ours.save_pretrained(f"{folder}/base")
        theirs = AutoModelForCausalLM.from_pretrained(f"{folder}/base", dtype=torch.float32, use_cache=False)
        if method != "full":
            for adapter in inject(ours, LoRAConfig(rank=8, targets="all-linear", **METHODS[method])):
                torch.nn.init.normal_(adapter.B, std=0.02)
            save_adapter(ours, f"{folder}/adapter")
            theirs = peft.PeftModel.from_pretrained(theirs, f"{folder}/adapter", is_trainable=True)
    n_learnt = sum(parameter.numel() for parameter in trainable_parameters(ours).values())
    their_count = sum(parameter.numel() for parameter in theirs.parameters() if parameter.requires_grad)
    if n_learnt != their_count:
        raise RuntimeError(f"{n_learnt:,} weights learn in ours and {their_count:,} in theirs: they are not the same")
    theirs_of = peer_step(theirs, lambda tokens: theirs(tokens).logits, mode, compiled)
    return {"ours": our_step(ours, mode, compiled, BATCH), "theirs": theirs_of}, n_learnt


def in_turns(steps: dict, vocab_size: int, rounds: int, warm_up: int) -> dict[str, float]:
    """Tokens per second of each in its fastest step after the warm-up: what else runs then must not decide."""
    generator = torch.Generator().manual_seed(1)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warm_up + rounds):
        tokens = torch.randint(1, vocab_size, (BATCH, CONTEXT + 1), generator=generator)
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        losses = []
        for name, step in steps.items():
            start = time.perf_counter()
            losses.append(step(inputs, targets))
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
        if number == 0 and abs(losses[0] - losses[1]) > 0.01:
            raise RuntimeError(f"the first losses are {losses[0]:.4f} and {losses[1]:.4f}: they are not the same function")
    return {name: BATCH * CONTEXT / min(times) for name, times in seconds.items()}


def main() -> None:
    install_one_line_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds: checks that it runs")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=FAMILIES, help=f"default: {' '.join(FAMILIES)}")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--compiled", action="store_true", help="both by torch.compile")
    options = parser.parse_args()
    print(table(run(options.quick, tuple(options.models), tuple(options.methods), options.precision, options.compiled)))


if __name__ == "__main__":
    main()
