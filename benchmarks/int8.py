"""Decoding speed with int8 weights against the model's own dtype: the same model, prompt and number of tokens.

    python benchmarks/int8.py [--models llama gpt2] [--sizes 15M 100M] [--batches 1 8] [--quick]

Both run alternately in one process; the figure is the best of the rounds.  A batch of more than
``FEW_ROWS`` multiplies restored weights, so the aim there is not to lose.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from generation import DTYPES, PROMPT_LENGTH, benchmark_model
from run import table
from shapes import SHAPES, SIZES, check_families, label

from scratch_llm.generation import SamplingConfig, generate_tokens

TARGETS = {1: 1.2}
"""By batch size, at least so many times as fast; others must not lose: 0.95."""


def run(
    quick: bool = False,
    families: Sequence[str] = ("llama", "gpt2"),
    sizes: Sequence[str] = ("15M",),
    dtypes: Sequence[str] = tuple(DTYPES),
    batch_sizes: Sequence[int] = (1, 8),
) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}: ours is int8, the peer the same model without it."""
    check_families(families)
    rows = []
    for size, family, dtype in itertools.product(sizes, families, dtypes):
        model = benchmark_model(family, size, DTYPES[dtype])
        n_tokens, rounds = (32 if quick else 200 if size == "15M" else 50), 3 if quick else 5
        for batch_size in batch_sizes:
            int8, same, equal = compare(model, batch_size, n_tokens, rounds)
            rows.append({"name": f"int8, {label(family, size)}, {dtype}, batch {batch_size}", "ours": round(int8, 1),
                         "peer": round(same, 1), "unit": "tok/s", "ratio": round(int8 / same, 2),
                         "target": TARGETS.get(batch_size, 0.95),
                         "note": f"peer the same in {dtype}; {equal:.0%} of tokens equal (random weights)"})
            print(f"{rows[-1]['name']}: {rows[-1]['ratio']}", flush=True)
    return rows


def compare(model, batch_size: int, n_tokens: int, rounds: int) -> tuple[float, float, float]:
    """Tokens per second in int8 and without, and the share of equal greedy tokens; packing is not in the time."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(1, model.config.vocab_size, (batch_size, PROMPT_LENGTH), generator=generator)
    sampling = SamplingConfig(max_new_tokens=n_tokens, temperature=0)

    def generate(weights: str):
        return generate_tokens(model, prompts, sampling, stop_ids=(), weights=weights)

    seconds: dict[str, list[float]] = {"int8": [], "same": []}
    outputs = {}
    for weights in list(seconds) * rounds:
        outputs[weights] = generate(weights)  # packs, as only one packed copy is kept
        start = time.perf_counter()
        generate(weights)
        seconds[weights].append(time.perf_counter() - start)
    same = sum(a == b for row, other in zip(*outputs.values()) for a, b in zip(row, other))
    total = batch_size * n_tokens
    return total / min(seconds["int8"]), total / min(seconds["same"]), same / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tokens and rounds")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=["llama", "gpt2"], help=f"which of {', '.join(SHAPES)}")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["15M"])
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], metavar="N")
    options = parser.parse_args()
    print(table(run(options.quick, options.models, options.sizes, options.dtypes, options.batches)))


if __name__ == "__main__":
    main()
