"""What ``dedup.py`` runs in the curate environment: datatrove's MinHash over JSON lines, with our shingles.

    .envs/curate/bin/python benchmarks/dedup_datatrove.py IN_FOLDER WORK_FOLDER UNIT SIZE BANDS ROWS WORKERS

Prints one line of JSON: seconds of each stage (imports left out) and the number of documents kept.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import xxhash
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer

#: As ``exact.fold``: lower case and white space; nothing else is made alike.
NORM = TextNormConfig(True, True, False, False, False)


class Units(WordTokenizer):
    """Characters, or words between white space, in place of a language's tokenizer."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def word_tokenize(self, text: str) -> list[str]:
        return list(text) if self.unit == "char" else text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        raise NotImplementedError("MinHash takes no sentences")

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError("MinHash takes no spans")


def hash_of(text: str) -> int:
    """datatrove's own choice; its wrapper of 0.10.1 hands text to xxhash, whose releases since 4 take only bytes."""
    return xxhash.xxh32_intdigest(text.encode("utf-8"))


def signatures(folder: str, config: MinhashConfig, unit: str) -> MinhashDedupSignature:
    step = MinhashDedupSignature(folder, config, language=Units(unit))
    step._hash_func = hash_of
    return step


def main() -> None:
    source, work, unit, size, bands, rows, workers = sys.argv[1:]
    workers = int(workers)
    config = MinhashConfig(
        n_grams=int(size), num_buckets=int(bands), hashes_per_bucket=int(rows), norm_config=NORM,
        hash_config=HashConfig(precision=32),
    )
    stages = {
        "signatures": (workers, [JsonlReader(source), signatures(f"{work}/signatures", config, unit)]),
        "buckets": (int(bands), [MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config)]),
        "cluster": (1, [MinhashDedupCluster(f"{work}/buckets", f"{work}/remove", config)]),
        "filter": (workers, [JsonlReader(source), MinhashDedupFilter(f"{work}/remove"), JsonlWriter(f"{work}/kept", compression=None)]),
    }
    seconds = {}
    for name, (tasks, pipeline) in stages.items():
        started = time.perf_counter()
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=workers, logging_dir=f"{work}/logs/{name}").run()
        seconds[name] = round(time.perf_counter() - started, 3)
    kept = sum(sum(1 for _ in open(path, encoding="utf-8")) for path in Path(work, "kept").glob("*.jsonl"))
    print("\n" + json.dumps({"seconds": seconds, "kept": kept}), flush=True)


if __name__ == "__main__":
    main()
