"""Requests together in a running batch against one after another: the same model, prompts and sampling.

    python benchmarks/continuous.py [--models llama mamba] [--sizes 15M] [--quick]

Eight prompts of unequal length, 100 new tokens each, bfloat16.  Both sides run alternately in one process; the figure
is the best of the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from generation import benchmark_model
from run import table
from shapes import SHAPES, SIZES, check_families, label

from llm_workshop.timing import fastest_seconds
from scratch_llm.generation import ContinuousBatch, SamplingConfig, generate_tokens
from scratch_llm.models import LanguageModel

TARGET = 3.0
N_REQUESTS = 8
SAMPLINGS = {"greedy": {"temperature": 0}, "top-k and top-p": {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "seed": 1}}


def run(quick: bool = False, families: Sequence[str] = ("llama", "mamba"), sizes: Sequence[str] = ("15M",)) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}: ours is the batch, the peer one request after another."""
    check_families(families)
    rows, n_tokens, rounds = [], 16 if quick else 100, 1 if quick else 3
    for size, family in itertools.product(sizes, families):
        model = benchmark_model(family, size, torch.bfloat16)
        for name, values in SAMPLINGS.items():
            together, alone = compare(model, SamplingConfig(max_new_tokens=n_tokens, **values), rounds)
            rows.append({"name": f"{N_REQUESTS} requests, {label(family, size)}, {name}", "ours": round(together, 1), "peer": round(alone, 1),
                         "unit": "tok/s", "ratio": round(together / alone, 2), "target": TARGET,
                         "note": "tokens of all requests; peer: one after another"})
            print(f"{rows[-1]['name']}: {rows[-1]['ratio']}", flush=True)
    return rows


def compare(model: LanguageModel, sampling: SamplingConfig, rounds: int) -> tuple[float, float]:
    """Tokens per second of all requests: together, and one after another."""
    prompts = [[(37 * row + 11 * column) % model.config.vocab_size for column in range(10 + 3 * row)] for row in range(N_REQUESTS)]

    def together() -> None:
        batch = ContinuousBatch(model, max_rows=N_REQUESTS)
        for prompt in prompts:
            batch.submit(prompt, sampling, ())
        while not batch.idle:
            batch.step()

    def alone() -> None:
        for prompt in prompts:
            generate_tokens(model, prompt, sampling, stop_ids=())

    # One work at a time: its warm-up packs the weights, of which only one packed copy is kept.
    seconds = [[fastest_seconds({"": work}, rounds=1)[""] for work in (together, alone)] for _ in range(rounds)]
    total = N_REQUESTS * sampling.max_new_tokens
    return total / min(s for s, _ in seconds), total / min(s for _, s in seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tokens and rounds")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=["llama", "mamba"], help=f"which of {', '.join(SHAPES)}")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["15M"])
    options = parser.parse_args()
    print(table(run(options.quick, options.models, options.sizes)))


if __name__ == "__main__":
    main()
