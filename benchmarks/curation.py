"""Cleaning against datatrove: the same rules over the same 50,000 short documents with two processes, in one run.

    python benchmarks/curation.py [--quick]

The rules are those of ``curation_rules.py``, the very same functions on both sides; what differs is what reads, calls
them, counts, and writes.  Ours also keeps what was dropped with its reason, samples, histograms and seconds of each rule.
Both sides take turns in processes of their own; the time is from the call to the end of the work, with the start of the
workers and without the imports of the main process; the figure is the best of the rounds.  Memory is the sum of the
resident sets of the whole process tree, looked at 50 times a second.

datatrove lives in .envs/curate (``make env-curate``); without it ours is measured alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from curation_rules import CHANGES, FILTERS

from llm_workshop.corpora.document import Document
from llm_workshop.corpora.sample.noise import inject
from llm_workshop.curation.shards import raw_name

HERE = Path(__file__).resolve().parent

DOCUMENTS, QUICK_DOCUMENTS = 50_000, 2_000
WORKERS = 2
SHARD_BYTES = 2_000_000
ROUNDS = 3
GROWTH = 10
PEER = Path(os.environ.get("WORKSHOP_CURATE_ENVIRONMENT") or HERE.parent / ".envs" / "curate") / "bin" / "python"


def make_shards(folder: Path, texts: Iterator[str], count: int) -> int:
    """``count`` documents, three in ten with a fault of the sample's kinds, as raw shards; returns their bytes."""
    folder.mkdir(parents=True)
    clean = (Document(f"d{number:07d}", "review", text) for number, text in enumerate(texts))
    lines, size, total, number = [], 0, 0, 0
    for done, document in enumerate(inject(clean, 0.3, 0), 1):
        lines.append(document.to_json().encode("utf-8", "replace") + b"\n")
        size += len(lines[-1])
        if size >= SHARD_BYTES or done == count:
            (folder / raw_name(number)).write_bytes(b"".join(lines))
            lines, size, total, number = [], 0, total + size, number + 1
        if done == count:
            return total
    raise ValueError(f"the texts gave fewer than {count} documents")


def texts_of_documents() -> tuple[Callable[[], Iterator[str]], str]:
    """Short documents without end, and what they are."""
    from bpe import benchmark_texts

    reviews, source = benchmark_texts(13.0)

    def endless() -> Iterator[str]:
        turn = 0
        while True:  # four reviews make a document; a further turn begins one later, so that texts differ
            turn += 1
            for place in range(turn, len(reviews) - 4, 4):
                yield "\n".join(reviews[place : place + 4])

    return endless, source


def measured(command: list[str]) -> dict[str, Any]:
    """What the command printed, and the peak of its tree's resident memory in MB."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "src")])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    tree, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, _resident(tree))
        time.sleep(0.02)
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {errors[-800:]}")
    return {**json.loads(output.strip().splitlines()[-1]), "peak": peak / 1e6}


def _resident(tree: psutil.Process) -> int:
    total = 0
    try:
        for process in (tree, *tree.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total


def clean_with_ours(raw: Path, out: Path) -> dict[str, Any]:
    return measured([sys.executable, str(HERE / "curation_ours.py"), str(raw), str(out), str(WORKERS)])


def clean_with_peer(raw: Path, out: Path) -> dict[str, Any]:
    return measured([str(PEER), str(HERE / "curation_datatrove.py"), str(raw), str(out), str(WORKERS)])


def run(quick: bool = False) -> list[dict]:
    """Rows with name, ours, peer, unit, ratio (above 1: ours is better), target and note."""
    count, rounds = (QUICK_DOCUMENTS, 1) if quick else (DOCUMENTS, ROUNDS)
    texts, source = texts_of_documents()
    with tempfile.TemporaryDirectory(prefix="bench-curation-") as folder:
        place = Path(folder)
        size = make_shards(place / "raw", texts(), count)
        ours, peers = [], []
        for turn in range(rounds):
            ours.append(clean_with_ours(place / "raw", place / f"ours-{turn}"))
            if PEER.is_file():
                peers.append(clean_with_peer(place / "raw", place / f"peer-{turn}"))
        large_size = make_shards(place / "large", texts(), GROWTH * count)
        large = clean_with_ours(place / "large", place / "ours-large")
    if any(result["kept"] != ours[0]["kept"] for result in (*ours, *peers)):
        raise RuntimeError("the two do not keep the same number of documents: the comparison is void")
    best, peer = min(ours, key=_seconds), min(peers, key=_seconds, default=None)
    peak = max(result["peak"] for result in ours)
    what = f"{source}, {count:,} documents, {size / 1e6:.1f} MB, {len(CHANGES) + len(FILTERS)} rules, {WORKERS} processes, {best['kept']:,} kept"
    missing = "" if peer else f"; datatrove is not at {PEER}: make env-curate"
    rows = [_row("cleaning", count / best["seconds"], peer and count / peer["seconds"], "documents/s", 3.0, what + missing)]
    peer_peak = max((result["peak"] for result in peers), default=None)
    rows.append(_row("memory of all processes", peak, peer_peak, "MB", None, "resident, summed over the tree, at its highest", less=True))
    rows.append({
        "name": f"memory with {GROWTH} times the documents", "ours": large["peak"], "peer": peak, "unit": "MB", "ratio": peak / large["peak"],
        "target": 0.9, "note": f"{GROWTH * count:,} documents, {large_size / 1e6:.0f} MB, {GROWTH * count / large['seconds']:,.0f} documents/s; the peer is ours with a tenth",
    })  # fmt: skip
    return rows


def _seconds(result: dict[str, Any]) -> float:
    return result["seconds"]


def _row(name: str, ours: float, peer: float | None, unit: str, target: float | None, note: str, less: bool = False) -> dict:
    ratio = None if peer is None else (peer / ours if less else ours / peer)
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "target": target, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 documents and one round: a check, not a measurement")
    from run import table

    print(table(run(parser.parse_args().quick)))


if __name__ == "__main__":
    main()
