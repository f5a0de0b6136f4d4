"""The parts of deduplication that run in several processes: each task reads files and leaves one whole file behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm_workshop.curation.dedup.exact import digest, fold
from llm_workshop.curation.dedup.lines import count_lines
from llm_workshop.curation.dedup.lsh import Bands, band_keys, choose_bands, pairs_of_band
from llm_workshop.curation.dedup.minhash import MinHash
from llm_workshop.curation.dedup.settings import DedupSettings, NearSettings
from llm_workshop.curation.dedup.shingles import shingles
from llm_workshop.curation.dedup.store import BYTES, Record, Store, read_records
from llm_workshop.curation.dedup.verify import similarities
from llm_workshop.curation.processes import run_in_processes
from llm_workshop.progress import progress_bar

#: Documents and characters whose shingles are made together.
BATCH_DOCUMENTS, BATCH_CHARACTERS = 2048, 500_000
#: Candidate pairs in one task of verification.
PAIRS_IN_TASK = 100_000
#: A verified pair (packed, see ``lsh.unpack``) and its Jaccard similarity.
SIMILAR = np.dtype([("pair", np.uint64), ("similarity", np.float64)])
#: Above every number of a document.
_TOP = 0xFFFFFFFF


@dataclass(frozen=True)
class Job:
    """What a worker process needs; ``do`` is a function at the top of a module, called with the store and a task."""

    do: Callable[[Store, int], None]
    shards: tuple[Path, ...]
    work: Path
    settings: DedupSettings


class Worker:
    """The ``make`` of ``run_in_processes``: called with the number of a task, it does the task."""

    def __init__(self, job: Job):
        self._job = job
        self._store = Store(job.shards, job.work, job.settings, fresh=False)

    def __call__(self, number: int) -> int:
        self._job.do(self._store, number)
        return number


def run_stage(store: Store, do: Callable[[Store, int], None], tasks: list[int], workers: int, description: str) -> None:
    """``do(store, task)`` for each task in ``workers`` processes (1: in this one), with progress."""
    if tasks:
        job = Job(do, store.shards, store.work, store.settings)
        with progress_bar(description, len(tasks)) as update:
            for done, _ in enumerate(run_in_processes(Worker, job, tasks, min(workers, len(tasks))), 1):
                update(done)


def bands_of(near: NearSettings) -> Bands:
    return choose_bands(near.threshold, near.permutations, near.recall)


def count_shard(store: Store, shard: int) -> None:
    """How many documents of the shard hold each line: ``lines-<shard>``."""
    documents = ((record.values.get("kind", ""), record.values["text"]) for record in read_records(store.shards[shard]))
    store.save("lines", shard, count_lines(documents, store.settings.lines))


def scan_shard(store: Store, shard: int) -> None:
    """One pass over a shard's text: ``digests``, ``keys`` (of the bands) and last ``table``, which says that it is done."""
    near = store.settings.near
    bands = bands_of(near) if near else Bands(0, 1)
    hasher = MinHash(bands.bands * bands.rows, near.seed) if near else None
    tables, digests, keys = [np.zeros((0, 4), np.int64)], [], [np.zeros((bands.bands, 0), np.uint64)]
    for batch in batches(read_records(store.shards[shard])):
        folded = [fold(store.text_of(record.values)[0]) for record in batch]
        digests.append(b"".join(map(digest, folded)))
        if hasher is not None:
            keys.append(band_keys(hasher.signatures(shingles(folded, near.unit, near.size)), bands))
        rows = [(r.offset, len(r.line), len(text), r.values.get("split") == "valid") for r, text in zip(batch, folded, strict=True)]
        tables.append(np.array(rows, dtype=np.int64))
    store.save("keys", shard, np.concatenate(keys, axis=1))
    store.save("digests", shard, np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2))
    store.save("table", shard, np.concatenate(tables))


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch, characters = [], 0
    for record in records:
        batch.append(record)
        characters += len(record.values["text"])
        if len(batch) == BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def sort_band(store: Store, band: int) -> None:
    """Candidate pairs of a band over all shards: ``pairs-<band>``."""
    keys = [store.load("keys", shard)[band] for shard in range(len(store.shards))]
    store.save("pairs", band, pairs_of_band(keys, store.load("alive", 0), store.settings.near.neighbours))


def verify_part(store: Store, part: int) -> None:
    """Candidate pairs whose first document is in a range: ``looked-<part>`` (how many) and ``similar-<part>`` (SIMILAR)."""
    near = store.settings.near
    low, high = store.load("parts", 0)[part : part + 2]
    pairs = np.unique(np.concatenate([_slice(store.load("pairs", band), low, high) for band in range(bands_of(near).bands)]))
    found = similarities(pairs, store.folded_texts, store.column(BYTES), near.unit, near.size)
    similar = np.zeros(np.count_nonzero(found >= near.threshold), dtype=SIMILAR)
    similar["pair"] = pairs[found >= near.threshold]
    similar["similarity"] = found[found >= near.threshold]
    store.save("looked", part, np.array([len(pairs)]))
    store.save("similar", part, similar)


def _slice(pairs: np.ndarray, low: int, high: int) -> np.ndarray:
    """The pairs of a sorted array whose first document is in [low, high)."""
    begin, end = np.searchsorted(pairs, np.array([low, high], dtype=np.uint64) << np.uint64(32))
    return np.asarray(pairs[begin:end])


def part_bounds(store: Store, bands: int, at_once: int = PAIRS_IN_TASK) -> np.ndarray:
    """Ranges of first documents that hold about ``at_once`` candidate pairs each: their bounds, uint64."""
    pairs = [store.load("pairs", band) for band in range(bands)]
    total = sum(map(len, pairs))
    wanted = max(1, -(-total // at_once))
    longest = max(pairs, key=len)
    if not len(longest):
        return np.array([0, _TOP], dtype=np.uint64)
    cuts = longest[np.linspace(0, len(longest), wanted + 1).astype(np.int64)[1:-1]] >> np.uint64(32)
    return np.unique(np.concatenate((np.array([0, _TOP], dtype=np.uint64), cuts)))
