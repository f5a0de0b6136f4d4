"""Multi-head attention in every way the workshop writes it, against ``nn.MultiheadAttention(need_weights=False)``.

    python benchmarks/attention.py [--quick] [--device cuda] [--dtype bfloat16]

One layer, causal, batch 8, heads of width 64, d_model 384 and 768, 256 and 1024 tokens; forward without gradients and
forward with backward.  All variants bear the same weights (``copy_weights``), are checked to agree, and take turns in one
process; the figure is the fastest of the rounds.  "Saved" is what the forward pass keeps for the backward pass.
Writes ``attention.png`` beside the table of ``benchmarks/run.py``.
"""

from __future__ import annotations

import argparse
import gc
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from llm_workshop.report.plots import bar_list, new_figure
from llm_workshop.timing import fastest_seconds
from scratch_llm.analysis import saved_bytes
from scratch_llm.io import atomic_write
from scratch_llm.layers.multi_head import MultiHead, copy_weights
from scratch_llm.layers.multi_head_kernels import MULTI_HEAD_VARIANTS

PEER, OURS = "nn.MultiheadAttention", "workshop"
BATCH, HEAD_DIM = 8, 64
SHAPES = [(384, 256), (384, 1024), (768, 256), (768, 1024)]
# Our models' layer is to be no slower than PyTorch's; the other variants are there to be compared, not to win.
TARGET = 1.0
FOLDER = Path("artifacts/bench")


def family(d_model: int, n_tokens: int, device: str, dtype: torch.dtype) -> dict[str, MultiHead]:
    """Every variant with the same weights."""
    torch.manual_seed(0)
    layers = {
        name: variant(d_model, d_model // HEAD_DIM, n_tokens).to(device, dtype)
        for name, variant in MULTI_HEAD_VARIANTS.items()
    }
    for layer in layers.values():
        copy_weights(layers[PEER], layer)
    return layers


def check_agreement(layers: dict[str, MultiHead], x: Tensor) -> None:
    """RuntimeError where a variant's output differs from the peer's: a wrong answer has no speed."""
    tolerance = 1e-4 if x.dtype == torch.float32 else 5e-2
    with torch.no_grad():
        expected = layers[PEER](x)
        for name, layer in layers.items():
            difference = (layer(x) - expected).abs().max().item()
            if difference > tolerance:
                raise RuntimeError(f"'{name}' differs from {PEER} by {difference:.2g}: it is not the same function")


def measure(layers: dict[str, MultiHead], x: Tensor, rounds: int, budget: float) -> dict[str, dict[str, float]]:
    """{"forward": ms, "training": ms, "saved": MB}, each by variant; those that cannot run are left out."""

    def forward(layer: MultiHead) -> None:
        with torch.no_grad():
            layer(x)

    def training(layer: MultiHead) -> None:
        layer.zero_grad(set_to_none=True)
        layer(x_grad).sum().backward()

    x_grad = x.clone().requires_grad_()
    trainable = {name: layer for name, layer in layers.items() if layer.cannot_run(x_grad) is None}
    with torch.no_grad():
        runnable = {name: layer for name, layer in layers.items() if layer.cannot_run(x) is None}
    # This and check_agreement have run everything once: that was the warm-up.
    figures = {"saved": {name: saved_bytes(layer, x_grad) / 1e6 for name, layer in trainable.items()}}
    for kind, work, those in (("forward", forward, runnable), ("training", training, trainable)):
        works = {name: partial(work, layer) for name, layer in those.items()}
        seconds = fastest_seconds(works, rounds, budget, warm_up=False)
        figures[kind] = {name: 1e3 * value for name, value in seconds.items()}
    return figures


def run(
    quick: bool = False,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    shapes: list[tuple[int, int]] | None = None,
    folder: Path = FOLDER,
) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}: ``ours`` is the variant, ``ratio`` the peer's time over its.

    ``shapes``: (d_model, tokens) of each comparison; None: all of ``SHAPES``, the smallest alone where ``quick``.
    """
    rows, panels = [], []
    for d_model, n_tokens in shapes or (SHAPES[:1] if quick else SHAPES):
        layers = family(d_model, n_tokens, device, dtype)
        x = torch.randn(BATCH, n_tokens, d_model, device=device, dtype=dtype)
        check_agreement({n: layer for n, layer in layers.items() if _runs(layer, x)}, x)
        figures = measure(layers, x, *((2, 1.0) if quick else (30, 15.0)))
        panels.append((d_model, n_tokens, figures))
        for kind in ("forward", "training"):
            for name in layers:
                if name != PEER:
                    rows.append(_row(name, kind, d_model, n_tokens, figures))
        del layers, x
        gc.collect()
    plot(panels, folder, f"{device}, {str(dtype).removeprefix('torch.')}")
    return rows


def _runs(layer: MultiHead, x: Tensor) -> bool:
    with torch.no_grad():
        return layer.cannot_run(x) is None


def _row(name: str, kind: str, d_model: int, n_tokens: int, figures: dict[str, dict[str, float]]) -> dict:
    ours, peer = figures[kind].get(name), figures[kind][PEER]
    saved = figures["saved"].get(name)
    note = "does not run here" if ours is None else ""
    if kind == "training" and saved is not None:
        note = f"saved {saved:,.0f} MB, peer {figures['saved'][PEER]:,.0f} MB"
    return {
        "name": f"{name}, {'forward' if kind == 'forward' else 'forward and backward'}, d {d_model}, T {n_tokens}",
        "ours": ours,
        "peer": peer,
        "unit": "ms",
        "ratio": None if ours is None else peer / ours,
        "target": TARGET if name == OURS else None,
        "note": note,
    }


def plot(panels: list[tuple[int, int, dict[str, dict[str, float]]]], folder: Path, where: str) -> Path:
    """One row of bars for each kind of figure, one column for each shape."""
    kinds = (("forward", "forward", "ms"), ("training", "forward + backward", "ms"), ("saved", "saved for backward", "MB"))
    figure, axes = new_figure(len(kinds), len(panels), width=4.4 if len(panels) > 1 else 6.0, height=3.2)
    axes = axes.reshape(len(kinds), len(panels))
    for column, (d_model, n_tokens, figures) in enumerate(panels):
        for row, (kind, title, unit) in enumerate(kinds):
            values = {name: figures[kind].get(name) for name in MULTI_HEAD_VARIANTS}
            bar_list(axes[row][column], values, f"{title}, d {d_model}, T {n_tokens}", unit)
            if column:
                axes[row][column].set_yticklabels([])
    figure.suptitle(f"Multi-head attention, batch {BATCH} ({where})", x=0.01, ha="left", fontsize=13, fontweight="bold")
    path = folder / "attention.png"
    with atomic_write(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=130)
    print(f"plot: {path}")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds: a check that it runs, not a measurement")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of weights and inputs")
    parser.add_argument("--d-model", type=int, help="only this width, with --tokens")
    parser.add_argument("--tokens", type=int, help="only this length, with --d-model")
    options = parser.parse_args()
    if (options.d_model is None) != (options.tokens is None):
        parser.error("--d-model and --tokens go together")
    from run import table

    shapes = [(options.d_model, options.tokens)] if options.tokens else None
    print(table(run(options.quick, options.device, getattr(torch, options.dtype), shapes)))
