"""Ratios against the peers, all measured in this run: ``make bench`` or ``python benchmarks/run.py``.

    make bench ARGS="generation --quick"      # one part: checks that it runs
    python benchmarks/generation.py --help    # each part is a program with choices of its own

bpe         training and encoding of the tokenizer against HF Tokenizers
segmenters  training and encoding of WordPiece and Unigram against HF Tokenizers and SentencePiece
attention   multi-head attention in every way it is written, against PyTorch's
training    steps of every architecture against transformers, litgpt and llms-from-scratch
adapters    fine-tuning steps, of all weights and of LoRA and DoRA, against PEFT on transformers
generation  new tokens of every architecture against the same peers
int8        generation with int8 weights against the dtype of the model
continuous  eight requests in one running batch against one after another
serving     the model behind Triton: against the engine in process, transformers, and one client
curation    cleaning by rules against datatrove with the same rules, and the memory that it takes
dedup       near duplicates by MinHash and LSH against datatrove

A row of the table holds ours and the peer's figure in one unit, their ratio (above 1: ours is better), the target and
a note.  Absolute figures depend on the machine and the hour; the ratio is what counts.  Peers that are not installed
are said to be, with the command that installs them.  ``gpu.py`` is apart: it needs an NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import shlex
import sys
from datetime import date
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from llm_workshop.artifacts import device_name, git_commit
from llm_workshop.errors import install_one_line_errors
from scratch_llm.io import atomic_write

# Each has ``run(quick) -> rows``: {name, ours, peer, unit, ratio, target, note}.
PARTS = ("bpe", "segmenters", "attention", "training", "adapters", "generation", "int8", "continuous", "serving", "curation", "dedup")


def main() -> None:
    install_one_line_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which parts (default: {' '.join(PARTS)})")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: a check that it runs, not a measurement")
    parser.add_argument("--output", type=Path, default=Path("artifacts/bench/benchmarks.md"), help="Markdown file to write")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise ValueError(f"unknown part '{unknown[0]}': use {', '.join(PARTS)}")

    blocks = [header()]
    for part in options.parts or PARTS:
        print(f"== {part}", flush=True)
        rows = importlib.import_module(part).run(options.quick)
        blocks.append(f"## {part}\n\n{table(rows)}")
        print(table(rows), flush=True)
        # Written after each part, so that an interrupted run keeps what it measured.
        with atomic_write(options.output) as stream:
            stream.write("\n\n".join(blocks) + "\n")
    print(f"written to {options.output}")


def header() -> str:
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return (
        "# Benchmarks\n\n"
        f"Commit {git_commit()}, {date.today()}, {device_name()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}.\nCommand: `{command}`"
    )


def table(rows: list[dict]) -> str:
    """Markdown table of the rows; a ratio that misses its target is marked."""
    lines = ["| what | ours | peer | unit | ratio | target | note |", "|---|--:|--:|---|--:|--:|---|"]
    for row in rows:
        ratio = "–" if row.get("ratio") is None else f"{row['ratio']:.2f}"
        target = row.get("target")
        missed = isinstance(target, (int, float)) and row.get("ratio") is not None and row["ratio"] < target
        cells = [row["name"], _figure(row.get("ours")), _figure(row.get("peer")), row.get("unit", ""),
                 ratio + (" (missed)" if missed else ""), "–" if target is None else str(target), row.get("note", "")]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _figure(value) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
