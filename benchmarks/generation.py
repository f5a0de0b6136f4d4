"""Generation speed against transformers (the same weights), litgpt and llms-from-scratch (the same shape).

    python benchmarks/generation.py [--models llama mamba] [--sizes 15M 100M] [--quick]

Every architecture of ``shapes.py``; 200 new tokens (50 at 100M), greedy, batch 1 and 8, float32 and bfloat16.  All
run in turns in one process.  A machine's own speed may change by half within seconds, so a ratio is the median of those of
the rounds, each of runs that followed one another; speeds are medians, too.  The note tells the time to read all weights
once per step at the memory bandwidth measured in the same run: weights that fit into the last-level cache may beat
it, and mixtures of experts read only a part.  Each peer generates with its own code and cache (``generation_peers.py``);
one that is not installed is left out, and said to be.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from contenders import INSTALL, OURS
from generation_peers import Generate, generation_peers, generator_of
from run import table
from shapes import SHAPES, SIZES, check_families, config_of, label, transformers_config

from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import LanguageModel, build_model

TRANSFORMERS = "transformers"
TARGET = 2.0
PROMPT_LENGTH = 16
NEW_TOKENS = {"15M": 200, "100M": 50}
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def benchmark_model(family: str, size: str, dtype: torch.dtype) -> LanguageModel:
    """A model of ``shapes.py`` with random weights."""
    return build_model(config_of(family, size), seed=0).to(dtype).eval()


def peer_of(model: LanguageModel):
    """The same weights in transformers; None where it has no such architecture."""
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if transformers_config(model.config) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=model.dtype).eval()


def read_bandwidth() -> float:
    """Bytes per second of summing an array far larger than any cache."""
    array = torch.ones(64 << 20)
    seconds = min(_seconds(array.sum) for _ in range(5))
    return array.numel() * array.element_size() / seconds


@dataclass
class Measured:
    """Tokens per second of each round: ours, of transformers (None where it has no such model) and of the other peers by
    name; ``equal`` is the share of equal greedy tokens with transformers, which has our weights."""

    ours: list[float]
    theirs: list[float] | None
    equal: float | None
    others: dict[str, list[float]] = field(default_factory=dict)


def compare(model: LanguageModel, peer, batch_size: int, n_tokens: int, rounds: int,
            others: Mapping[str, Generate] | None = None) -> Measured:
    """All in turns, every other round in the opposite order."""
    vocab_size = model.config.vocab_size
    prompts = torch.randint(1, vocab_size, (batch_size, PROMPT_LENGTH), generator=torch.Generator().manual_seed(1))
    sampling = SamplingConfig(max_new_tokens=n_tokens, temperature=0)
    mask = torch.ones_like(prompts)

    def ours():
        return generate_tokens(model, prompts, sampling, stop_ids=())

    def theirs():
        with torch.inference_mode():
            new = peer.generate(
                prompts,
                attention_mask=mask,
                max_new_tokens=n_tokens,
                min_new_tokens=n_tokens,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
        return new[:, PROMPT_LENGTH:].tolist()

    runs = {OURS: ours} | ({} if peer is None else {TRANSFORMERS: theirs})
    runs |= {who: partial(_generate, generate, prompts, n_tokens) for who, generate in (others or {}).items()}
    tokens = {who: function() for who, function in runs.items()}  # warm-up, and what came out
    speeds: dict[str, list[float]] = {who: [] for who in runs}
    for number in range(rounds):
        for who in list(runs)[:: -1 if number % 2 else 1]:
            speeds[who].append(batch_size * n_tokens / _seconds(runs[who]))
    same = [a == b for row, other in zip(tokens[OURS], tokens.get(TRANSFORMERS, [])) for a, b in zip(row, other)]
    return Measured(speeds.pop(OURS), speeds.pop(TRANSFORMERS, None), sum(same) / len(same) if same else None, speeds)


def _generate(generate: Generate, prompts: torch.Tensor, n_tokens: int) -> list[list[int]]:
    new = generate(prompts, n_tokens)
    if new.shape != (len(prompts), n_tokens):
        raise RuntimeError(f"{tuple(new.shape)} new tokens came, not {(len(prompts), n_tokens)}: the peer has another version")
    return new.tolist()


def run(
    quick: bool = False,
    families: Sequence[str] | None = None,
    sizes: Sequence[str] = ("15M",),
    dtypes: Sequence[str] = tuple(DTYPES),
    batch_sizes: Sequence[int] = (1, 8),
) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}; ``ratio`` at least ``target`` is a pass."""
    check_families(families or ())
    rows, rounds = [], 1 if quick else 9
    bandwidth = read_bandwidth()
    for size, family in itertools.product(sizes, families or SHAPES):
        n_tokens = min(32, NEW_TOKENS[size]) if quick else NEW_TOKENS[size]
        there, missing = generation_peers(family, size)
        for one in missing:
            print(f"SKIPPED {one}: not installed ({INSTALL})", flush=True)
        for dtype in dtypes:
            model = benchmark_model(family, size, DTYPES[dtype])
            peer = peer_of(model)
            others = {one.who: generator_of(one, DTYPES[dtype]) for one in there}
            weights = sum(p.numel() * p.element_size() for p in model.parameters())
            for batch_size in batch_sizes:
                name = f"generate, {label(family, size)}, {dtype}, batch {batch_size}"
                measured = compare(model, peer, batch_size, n_tokens, rounds, others)
                found = rows_of(name, measured, batch_size, weights, bandwidth)
                print(f"{name}: {', '.join(str(row['ratio']) for row in found)}", flush=True)
                rows += found
            del model, peer, others
            gc.collect()
        rows += [{"name": f"generate, {one}", "ours": None, "peer": None, "unit": "tok/s", "ratio": None, "target": None,
                  "note": f"not installed: {INSTALL}"} for one in missing]
    return rows


def rows_of(name: str, measured: Measured, batch_size: int, weights: int, bandwidth: float) -> list[dict]:
    """A line of the table for each peer; ``weights`` in bytes, of which mixtures of experts read only a part per step."""
    step, floor = batch_size / median(measured.ours), weights / bandwidth
    note = f"step {step * 1e3:.2f} ms, all weights once {floor * 1e3:.2f} ms ({weights / 1e6:.0f} MB at {bandwidth / 1e9:.0f} GB/s)"
    ours = {"name": name, "ours": round(median(measured.ours), 1), "peer": None, "unit": "tok/s", "ratio": None, "target": None,
            "note": f"transformers has no such model; {note}"}
    rows = []
    if measured.theirs is not None:
        rows.append(_against(ours, measured.ours, TRANSFORMERS, measured.theirs, f"{note}; {measured.equal:.0%} of tokens equal"))
    others = measured.others.items()
    rows += [_against(ours, measured.ours, who, speeds, "its own weights, the same shape") for who, speeds in others]
    return rows or [ours]


def _against(row: dict, ours: list[float], who: str, theirs: list[float], note: str) -> dict:
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    return row | {"name": f"{row['name']}, {who}", "peer": round(median(theirs), 1), "ratio": round(median(ratios), 2),
                  "target": TARGET, "note": f"{note}; ratios of rounds {ratios[0]:.2f} to {ratios[-1]:.2f}"}


def _seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tokens and rounds")
    parser.add_argument("--models", nargs="+", metavar="NAME", help=f"which of {', '.join(SHAPES)} (default: all)")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["15M"])
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], metavar="N")
    options = parser.parse_args()
    print(table(run(options.quick, options.models, options.sizes, options.dtypes, options.batches)))


if __name__ == "__main__":
    main()
