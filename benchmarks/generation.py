"""Generation speed against ``generate`` of transformers: the same weights, dtype, prompt and number of tokens.

    python benchmarks/generation.py [--models llama mamba] [--sizes 15M 100M] [--quick]

Every architecture of ``shapes.py``; 200 new tokens (50 at 100M), greedy, batch 1 and 8, float32 and bfloat16.  Both
sides run alternately in one process; the figure is the best of the rounds.  The note tells the time to read all weights
once per step at the memory bandwidth measured in the same run: weights that fit into the last-level cache may beat
it, and mixtures of experts read only a part.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from shapes import SHAPES, SIZES, check_families, config_of, label, transformers_config

from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import LanguageModel, build_model

TARGET = 2.0
PROMPT_LENGTH = 16
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
    """Tokens per second of both sides (theirs None where there is no peer) and the share of equal greedy tokens."""

    ours: float
    theirs: float | None
    equal: float | None


def compare(model: LanguageModel, peer, batch_size: int, n_tokens: int, rounds: int) -> Measured:
    """Both sides alternately, the best round of each."""
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

    total = batch_size * n_tokens
    mine = ours()  # warm-up, and what came out
    if peer is None:
        return Measured(total / min(_seconds(ours) for _ in range(rounds)), None, None)
    reference = theirs()
    same = sum(a == b for row, other in zip(mine, reference) for a, b in zip(row, other))
    seconds = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
    return Measured(total / min(s for s, _ in seconds), total / min(s for _, s in seconds), same / total)


def run(
    quick: bool = False,
    families: Sequence[str] | None = None,
    sizes: Sequence[str] = ("15M",),
    dtypes: Sequence[str] = tuple(DTYPES),
    batch_sizes: Sequence[int] = (1, 8),
) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}; ``ratio`` at least ``target`` is a pass."""
    check_families(families or ())
    rows, n_tokens, rounds = [], 32 if quick else 200, 1 if quick else 5
    bandwidth = read_bandwidth()
    for size, family, dtype in itertools.product(sizes, families or SHAPES, dtypes):
        model = benchmark_model(family, size, DTYPES[dtype])
        peer = peer_of(model)
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        for batch_size in batch_sizes:
            measured = compare(model, peer, batch_size, n_tokens if size == "15M" else n_tokens // 4, rounds)
            rows.append(row_of(f"generate, {label(family, size)}, {dtype}, batch {batch_size}", measured, batch_size, weights, bandwidth))
            print(f"{rows[-1]['name']}: {rows[-1]['ratio']}", flush=True)
        gc.collect()
    return rows


def row_of(name: str, measured: Measured, batch_size: int, weights: int, bandwidth: float) -> dict:
    """One line of the table; ``weights`` in bytes, of which mixtures of experts read only a part per step."""
    step, floor = batch_size / measured.ours, weights / bandwidth
    note = f"step {step * 1e3:.2f} ms, all weights once {floor * 1e3:.2f} ms ({weights / 1e6:.0f} MB at {bandwidth / 1e9:.0f} GB/s)"
    if measured.theirs is None:
        return {"name": name, "ours": round(measured.ours, 1), "peer": None, "unit": "tok/s", "ratio": None, "target": None,
                "note": f"transformers has no such model; {note}"}
    return {"name": name, "ours": round(measured.ours, 1), "peer": round(measured.theirs, 1), "unit": "tok/s",
            "ratio": round(measured.ours / measured.theirs, 2), "target": TARGET,
            "note": f"peer transformers; {note}; {measured.equal:.0%} of tokens equal"}


def markdown(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    columns = ("name", "ours", "peer", "unit", "ratio", "target", "note")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(str(row[c]) for c in columns) + " |" for row in rows])


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
    print(markdown(run(options.quick, options.models, options.sizes, options.dtypes, options.batches)))


if __name__ == "__main__":
    main()
