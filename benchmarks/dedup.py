"""Near duplicates: our MinHash and LSH against datatrove's, with the same shingles and bands, in one run.

    python benchmarks/dedup.py [--quick]

50,000 film reviews (NSMC, if the real data lies at hand; else documents of the embedded sample), a tenth of them edited
copies of others, in shards of 25,000, two processes on both sides.  Both read JSON lines and write those that stay.  datatrove
takes what shares a band for a duplicate; ours compares the shingles of such pairs as well, and that is in its time.
"found" is the share of the edited copies with Jaccard similarity >= 0.8 of which only one of the two texts stays.

datatrove runs in .envs/curate (``make env-curate``); without it there is no ratio.  Memory is the resident memory of
all our processes together, at its highest, for the reviews and for ten times as many.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psutil

from llm_workshop.corpora.document import Document, write_documents
from llm_workshop.corpora.sample import generate
from llm_workshop.curation.dedup.exact import fold
from llm_workshop.curation.dedup.pipeline import deduplicate
from llm_workshop.curation.dedup.settings import DedupSettings, NearSettings
from llm_workshop.curation.dedup.shingles import shingles
from llm_workshop.curation.dedup.verify import jaccard

REPOSITORY = Path(__file__).resolve().parents[1]
PEER_PYTHON = REPOSITORY / ".envs" / "curate" / "bin" / "python"
DOCUMENTS, QUICK_DOCUMENTS = 50_000, 2_000
SHARD = 25_000
EDITED = 0.1
WORKERS = 2
#: 14 bands of 8 rows are datatrove's default.
BANDS, ROWS, RECALL = 14, 8, 0.92
SHINGLES = (("char", 5), ("word", 3))
TARGET, MEMORY_MB = 3.0, 500


def texts() -> tuple[Iterator[str], str]:
    folder = Path(os.environ.get("WORKSHOP_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    reviews = folder / "nsmc" / "reviews_other.jsonl.xz"
    if reviews.is_file():
        return _reviews(reviews), "NSMC"
    return (document.text for document in generate(1000.0, seed=0)), "embedded sample"


def _reviews(path: Path) -> Iterator[str]:
    with lzma.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            text = json.loads(line)["document"]
            if len(fold(text)) >= 20:
                yield text


def edited(text: str, random_: random.Random) -> str:
    """One to three words left out, repeated or turned around."""
    words = text.split()
    for _ in range(random_.randint(1, 3)):
        place = random_.randrange(len(words))
        words[place : place + 1] = random_.choice(([], [words[place]] * 2, [words[place][::-1]]))
        words = words or ["빈"]
    return " ".join(words)


def make_shards(folder: Path, count: int) -> tuple[list[Path], dict[str, tuple[str, str]], str]:
    """Shards; {id of an edited copy: (its text, the original's)}; where the texts are from."""
    source, name = texts()
    random_ = random.Random(0)
    originals = list(islice(source, int(count * (1 - EDITED))))
    documents = [Document(f"original-{i}", "text", text) for i, text in enumerate(originals)]
    copies = {}
    for i in random_.sample(range(len(originals)), min(count - len(originals), len(originals))):
        copies[f"copy-{i}"] = (edited(originals[i], random_), originals[i])
        documents.append(Document(f"copy-{i}", "text", copies[f"copy-{i}"][0]))
    random_.shuffle(documents)
    paths = [folder / f"{shard:05d}.jsonl" for shard in range(max(WORKERS, count // SHARD))]
    for shard, path in enumerate(paths):
        write_documents(path, documents[shard :: len(paths)])
    return paths, copies, name


def run_ours(shards: list[Path], out: Path, unit: str, size: int) -> tuple[float, set[str]]:
    """(seconds, ids that stay)."""
    near = NearSettings(unit=unit, size=size, permutations=BANDS * ROWS, recall=RECALL)
    started = time.perf_counter()
    deduplicate(shards, out, DedupSettings(near=near), workers=WORKERS)
    return time.perf_counter() - started, _ids([out / "train.jsonl"])


def run_peer(shards: list[Path], out: Path, unit: str, size: int) -> tuple[float, set[str]]:
    command = [PEER_PYTHON, REPOSITORY / "benchmarks" / "dedup_datatrove.py", shards[0].parent, out, unit, size, BANDS, ROWS, WORKERS]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"datatrove ended with {done.returncode}: {done.stderr[-2000:]}")
    seconds = json.loads(done.stdout.strip().splitlines()[-1])["seconds"]
    return sum(seconds.values()), _ids((out / "kept").glob("*.jsonl"))


def _ids(paths) -> set[str]:
    return {json.loads(line)["id"] for path in paths for line in path.read_text(encoding="utf-8").splitlines()}


def true_copies(copies: dict[str, tuple[str, str]], unit: str, size: int) -> list[str]:
    """Edited copies whose similarity to the original is at least 0.8."""
    names, alike = list(copies), []
    for begin in range(0, len(names), 1000):
        part = names[begin : begin + 1000]
        found = shingles([fold(text) for name in part for text in copies[name]], unit, size)
        alike += [name for i, name in enumerate(part) if jaccard(found.unique(2 * i), found.unique(2 * i + 1)) >= 0.8]
    return alike


def found_share(kept: set[str], alike: list[str]) -> float:
    gone = [name for name in alike if not {name, name.replace("copy", "original")} <= kept]
    return len(gone) / max(1, len(alike))


def peak_memory(shards: list[Path], out: Path) -> tuple[float, float]:
    """(MB of all processes together at their highest, seconds) of a run in a process of its own."""
    command = [sys.executable, __file__, "--worker", str(out), *map(str, shards)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        parent = psutil.Process(process.pid)
        while not ended.wait(0.05):
            try:
                everyone = [parent, *parent.children(recursive=True)]
                peak = max(peak, sum(one.memory_info().rss for one in everyone))
            except psutil.Error:
                continue

    watcher, started = threading.Thread(target=watch), time.perf_counter()
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    if code:
        raise RuntimeError(f"the memory run ended with {code}")
    return peak / 1e6, seconds


def run(quick: bool = False) -> list[dict]:
    count, rows = QUICK_DOCUMENTS if quick else DOCUMENTS, []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shards, copies, name = make_shards(place / "in", count)
        for unit, size in SHINGLES:
            rows.append(_compare(place, shards, copies, f"{name}, {count:,} documents", unit, size))
        rows += _memory(place, name, count)
    return rows


def _compare(place: Path, shards: list[Path], copies: dict, what: str, unit: str, size: int) -> dict:
    total, alike = sum(1 for path in shards for _ in open(path, encoding="utf-8")), true_copies(copies, unit, size)
    ours, kept = run_ours(shards, place / f"ours-{unit}", unit, size)
    note = f"{what}; of {len(alike):,} copies >= 0.8 ours found {found_share(kept, alike):.1%}, kept {len(kept):,}"
    if not PEER_PYTHON.is_file():
        return _row(f"MinHash, {size} {unit}s", total / ours, None, "documents/s", TARGET, f"{note}; datatrove is not installed: make env-curate")
    peer, peer_kept = run_peer(shards, place / f"peer-{unit}", unit, size)
    note += f"; datatrove {found_share(peer_kept, alike):.1%}, kept {len(peer_kept):,}; both keep {len(kept & peer_kept):,}"
    return _row(f"MinHash, {size} {unit}s", total / ours, total / peer, "documents/s", TARGET, note)


def _memory(place: Path, name: str, count: int) -> list[dict]:
    once, _ = peak_memory(make_shards(place / "once", count)[0], place / "m1")
    shards, _, _ = make_shards(place / "ten", 10 * count)
    documents = sum(1 for path in shards for _ in open(path, encoding="utf-8"))
    tenfold, seconds = peak_memory(shards, place / "m10")
    note = f"{name}, {documents:,} documents in {seconds:.1f} s; 'peer' is ours with {count:,}; limit {MEMORY_MB} MB: {'held' if tenfold <= MEMORY_MB else 'MISSED'}"
    return [_row("memory, ten times the text", tenfold, once, "MB", None, note)]


def _row(name: str, ours: float, peer: float | None, unit: str, target, note: str) -> dict:
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, "ratio": peer and ours / peer, "target": target, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 documents: checks that it runs")
    parser.add_argument("--worker", nargs="+", metavar="PATH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        deduplicate(options.worker[1:], options.worker[0], DedupSettings(), workers=WORKERS)
        return
    for row in run(options.quick):
        print(json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
