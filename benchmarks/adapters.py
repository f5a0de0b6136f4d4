"""Fine-tuning steps (``scratch_llm.peft``) against PEFT on transformers: same weights, batch and optimiser.

    python benchmarks/adapters.py [--models llama gpt2] [--methods full lora dora] [--precision float32] [--compiled] [--quick]

Models of 15 million parameters (``shapes.py``), 16 x 256 tokens; all weights, or rank 8 on every linear layer of the
blocks.  A step is forward, loss, backward, clipping to norm 1, fused AdamW on what learns, and the loss read out.  Weights
and adapters go from ours to theirs through files, and the first losses are compared: what differs has no speed.  Each has a
process of its own (what ours asks of the allocator would speed up theirs too), they take turns, and the fastest step of each
counts.  (This file is not called ``peft``: Python would find it before
the library.)
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from adapters_worker import AdapterWorker
from run import table
from shapes import check_families, config_of

from llm_workshop.errors import install_one_line_errors
from scratch_llm.models import build_model
from scratch_llm.peft import LoRAConfig, inject, save_adapter
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
            with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
                save_weights(family, method, Path(folder))
                workers = {whose: AdapterWorker(whose, folder, mode, compiled, (BATCH, CONTEXT)) for whose in ("ours", "theirs")}
                for worker in workers.values():
                    stack.callback(worker.close)
                n_learnt = same_count(workers)
                speeds = in_turns(workers, rounds=2 if quick else 12, warm_up=1 if quick else 2)
            note = f"{mode}{' compiled' if compiled else ''}, {n_learnt:,} weights learn"
            rows.append({
                "name": f"{method}, {family} 15M, against {'transformers' if method == 'full' else 'PEFT'}", "ours": round(speeds["ours"]), "peer": round(speeds["theirs"]),
                "unit": "tok/s", "ratio": round(speeds["ours"] / speeds["theirs"], 2), "target": TARGET, "note": note,
            })  # fmt: skip
            print(f"{rows[-1]['name']}: {rows[-1]['ours']:,} and {rows[-1]['peer']:,} tok/s", flush=True)
    return rows


def save_weights(family: str, method: str, folder: Path) -> None:
    """A random model and, but for ``full``, an adapter that already says something."""
    torch.manual_seed(0)
    model = build_model(config_of(family))
    model.save_pretrained(folder / "base")
    if method != "full":
        for adapter in inject(model, LoRAConfig(rank=8, targets="all-linear", **METHODS[method])):
            torch.nn.init.normal_(adapter.B, std=0.02)
        save_adapter(model, folder / "adapter")


def in_turns(workers: dict, rounds: int, warm_up: int) -> dict[str, float]:
    """Tokens per second of each in its fastest step after the warm-up: what else runs then must not decide."""
    best = dict.fromkeys(workers, float("inf"))
    for number in range(warm_up + rounds):
        answers = {name: worker.ask("steps", 1) for name, worker in workers.items()}
        if number == 0 and abs(answers["ours"]["loss"] - answers["theirs"]["loss"]) > 0.01:
            raise RuntimeError(f"the first losses are {answers['ours']['loss']:.4f} and {answers['theirs']['loss']:.4f}: "
                               "they are not the same function")
        if number >= warm_up:
            best = {name: min(seconds, *answers[name]["seconds"]) for name, seconds in best.items()}
    return {name: BATCH * CONTEXT / seconds for name, seconds in best.items()}


def same_count(workers: dict) -> int:
    """How many numbers learn in each."""
    counts = {name: worker.ask("facts")["learnt"] for name, worker in workers.items()}
    if counts["ours"] != counts["theirs"]:
        raise RuntimeError(f"{counts['ours']:,} weights learn in ours and {counts['theirs']:,} in theirs: they are not the same")
    return counts["ours"]


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
