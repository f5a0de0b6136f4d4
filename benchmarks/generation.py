"""Generation speed against ``generate`` of transformers: the same weights, dtype, prompt and number of tokens.

    python benchmarks/generation.py [--quick]

Shape: 6 layers, d_model 384, 6 heads, d_ff 1024, vocabulary 8192, tied embeddings (13.8 M parameters); 200 new tokens,
greedy, batch 1 and 8, float32 and bfloat16.  Both sides run alternately in one process; the figure is the best of the
rounds.  The floor is the time to read all weights once per step at the memory bandwidth measured in the same run
(weights that fit into the last-level cache may beat it).
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time

import torch

from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import Llama, LlamaConfig, build_model

TARGET = 2.0
PROMPT_LENGTH = 16


def benchmark_model(dtype: torch.dtype) -> Llama:
    """The model of DESIGN section 9, with random weights."""
    config = LlamaConfig(
        vocab_size=8192,
        context_length=256,
        n_layers=6,
        n_heads=6,
        d_model=384,
        d_ff=1024,
        tie_embeddings=True,
    )
    return build_model(config, seed=0).to(dtype).eval()


def peer_of(model: Llama):
    """The same weights in transformers."""
    from transformers import LlamaForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return LlamaForCausalLM.from_pretrained(folder, dtype=model.dtype).eval()


def read_bandwidth() -> float:
    """Bytes per second of summing an array far larger than any cache."""
    array = torch.ones(64 << 20)
    seconds = min(_seconds(array.sum) for _ in range(5))
    return array.numel() * array.element_size() / seconds


def compare(dtype: torch.dtype, batch_size: int, n_tokens: int, rounds: int) -> tuple[float, float, float]:
    """(our tokens/s, their tokens/s, share of greedy tokens that agree)."""
    model = benchmark_model(dtype)
    peer = peer_of(model)
    prompts = torch.randint(0, 8192, (batch_size, PROMPT_LENGTH), generator=torch.Generator().manual_seed(1))
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
            )
        return new[:, PROMPT_LENGTH:].tolist()

    mine, reference = ours(), theirs()  # warm-up, and the comparison of what came out
    same = sum(a == b for row, other in zip(mine, reference) for a, b in zip(row, other)) / (
        batch_size * n_tokens
    )
    seconds = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
    total = batch_size * n_tokens
    return total / min(s for s, _ in seconds), total / min(s for _, s in seconds), same


def run(quick: bool = False) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}; ``ratio`` at least ``target`` is a pass."""
    rows, n_tokens, rounds = [], 64 if quick else 200, 2 if quick else 5
    bandwidth = read_bandwidth()
    for dtype in (torch.bfloat16, torch.float32):
        weights = sum(p.numel() * p.element_size() for p in benchmark_model(dtype).parameters())
        floor = weights / bandwidth
        for batch_size in (1, 8):
            ours, theirs, same = compare(dtype, batch_size, n_tokens, rounds)
            step = batch_size / ours
            rows.append(
                {
                    "name": f"generate, {str(dtype).removeprefix('torch.')}, batch {batch_size}",
                    "ours": round(ours, 1),
                    "peer": round(theirs, 1),
                    "unit": "tok/s",
                    "ratio": round(ours / theirs, 2),
                    "target": TARGET,
                    "note": f"peer transformers; step {step * 1e3:.2f} ms, floor {floor * 1e3:.2f} ms "
                    f"({weights / 1e6:.0f} MB at {bandwidth / 1e9:.0f} GB/s); {same:.0%} of tokens equal",
                }
            )
            gc.collect()
    return rows


def markdown(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    columns = ("name", "ours", "peer", "unit", "ratio", "target", "note")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(str(row[c]) for c in columns) + " |" for row in rows])


def _seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer tokens and rounds")
    print(markdown(run(parser.parse_args().quick)))
