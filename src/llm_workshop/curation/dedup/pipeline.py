"""Deduplicating shards of documents: lines, exact copies, near copies; what stays goes into train.jsonl and valid.jsonl.

    lines    (optional) count lines, take the frequent ones out of every text
    scan     one pass over the text: digests for exact copies, MinHash signatures hashed into bands
    exact    sort the digests
    bands    sort each band's hashes: candidate pairs
    verify   exact Jaccard similarity of the candidates
    choose   who stays
    hits     (optional) training documents that hold the text of evaluation sets
    write    what stays, what went and for whom, the card

Text passes through memory in batches only, and everything about documents lies in arrays on disk.  Each task (a shard,
a band, a range of pairs) leaves one whole file in the work folder: after an interruption finished tasks are not redone,
and the result is the same, byte for byte, whatever the number of workers.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from llm_workshop.curation.dedup.choose import RULES, Dropped, find_exact, find_near
from llm_workshop.curation.dedup.contamination import find_contamination
from llm_workshop.curation.dedup.lines import frequent_lines
from llm_workshop.curation.dedup.lsh import collision_probability
from llm_workshop.curation.dedup.settings import DedupSettings
from llm_workshop.curation.dedup.stages import bands_of, count_shard, run_stage, scan_shard
from llm_workshop.curation.dedup.store import VALID, Store, read_records
from scratch_llm.io import atomic_write

OUTPUTS = ("train.jsonl", "valid.jsonl", "duplicates.jsonl", "card.json")
#: Pairs and characters of each that the card shows.
EXAMPLES, EXCERPT = 12, 300


def deduplicate(
    shards: Sequence[str | Path], out: str | Path, settings: DedupSettings | None = None,
    workers: int = 1, work: str | Path | None = None,
) -> dict[str, Any]:
    """Deduplicate JSON-lines shards of documents (id, kind, text, split...) into ``out``; returns the facts of the card.

    Writes train.jsonl, valid.jsonl, duplicates.jsonl ({id, rule, of, similarity}) and card.json.  A held-out document
    is preferred to its copy in training: the evaluation stays what it was, and training does not know it.
    ``work`` (default: out/.work) is where unfinished work is kept; it may be deleted afterwards.

    Raises ValueError for a line that is no document, OSError for a full disk (run again: it goes on) and for an
    evaluation set whose files are not at hand.
    """
    settings, out = settings or DedupSettings(), Path(out)
    if not shards:
        raise ValueError("nothing to deduplicate: no shards; run 'make week2-clean' first")
    out.mkdir(parents=True, exist_ok=True)
    store = Store([Path(path) for path in shards], Path(work) if work else out / ".work", settings)
    seconds: dict[str, float] = {}
    with _timed(seconds, "lines"):
        _count_lines(store, workers)
    with _timed(seconds, "scan"):
        run_stage(store, scan_shard, store.missing("table", len(store.shards)), workers, "signatures (shards)")
    with _timed(seconds, "exact"):
        exact = find_exact(store)
    with _timed(seconds, "near"):
        near, pairs = find_near(store, exact.number, workers)
    dropped = exact.joined(near)
    with _timed(seconds, "contamination"):
        contaminated, items, sets = find_contamination(store, dropped.number, workers)
        dropped = dropped.joined(contaminated)
    with _timed(seconds, "write"):
        facts = _write(store, dropped, items, out)
        facts |= {"settings": settings.model_dump(mode="json"), "pairs": pairs, "curve": _curve(settings), "contamination": sets}
        with atomic_write(out / "card.json") as stream:
            json.dump(facts, stream, ensure_ascii=False, indent=2)
    return {**facts, "seconds": seconds}


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 3)


def _count_lines(store: Store, workers: int) -> None:
    rule = store.settings.lines
    if rule is None:
        return
    count = len(store.shards)
    run_stage(store, count_shard, store.missing("lines", count), workers, "counting lines (shards)")
    if not store.has("frequent", 0):
        store.save("frequent", 0, frequent_lines([store.load("lines", shard) for shard in range(count)], rule.min_documents))


def _curve(settings: DedupSettings) -> dict[str, Any] | None:
    """The bands, and how likely a pair becomes a candidate at some similarities."""
    if settings.near is None:
        return None
    bands = bands_of(settings.near)
    points = {f"{s:.2f}": round(float(collision_probability(s, bands)), 4) for s in np.arange(0.1, 1.0, 0.1)}
    return {"bands": bands.bands, "rows": bands.rows, "probability": points}


def _write(store: Store, dropped: Dropped, items: dict[int, str], out: Path) -> dict[str, Any]:
    """Write the three files; returns counts, the lines taken out, clusters and examples."""
    goes = np.zeros(store.bounds[-1], dtype=bool)
    goes[dropped.number] = True
    removed: Counter[str] = Counter()
    kept = {split: {"documents": 0, "bytes": 0} for split in ("train", "valid")}
    with ExitStack() as stack:
        files = {split: stack.enter_context(atomic_write(out / f"{split}.jsonl", "wb")) for split in kept}
        for shard in range(len(store.shards)):
            for line, valid, lost in _kept_lines(store, shard, goes):
                split = "valid" if valid else "train"
                files[split].write(line)
                kept[split]["documents"] += 1
                kept[split]["bytes"] += len(line)
                removed.update(lost)
    examples = _write_duplicates(store, dropped, items, out / "duplicates.jsonl")
    sizes = np.unique(dropped.of[dropped.of >= 0], return_counts=True)[1] + 1
    return {
        "documents": int(store.bounds[-1]),
        "kept": kept,
        "dropped": {rule: int(np.count_nonzero(dropped.rule == number)) for number, rule in enumerate(RULES)},
        "clusters": {str(size): int(count) for size, count in zip(*np.unique(sizes, return_counts=True))},
        "lines": [{"documents": count, "line": line[:EXCERPT]} for line, count in removed.most_common(EXAMPLES)],
        "examples": examples,
    }


def _kept_lines(store: Store, shard: int, goes: np.ndarray) -> Iterator[tuple[bytes, bool, list[str]]]:
    """(line, held out, lines taken out of its text) of each document of a shard that stays."""
    start, valid = int(store.bounds[shard]), store.load("table", shard)[:, VALID].tolist()
    drops = goes[start : start + len(valid)].tolist()
    if store.settings.lines is None:
        with open(store.shards[shard], "rb") as stream:
            lines = (line for line in stream if line.strip())
            for line, held_out, drop in zip(lines, valid, drops):
                if not drop:
                    yield line if line.endswith(b"\n") else line + b"\n", held_out > 0, []
        return
    for record, held_out, drop in zip(read_records(store.shards[shard]), valid, drops):
        if drop:
            continue
        text, lost = store.text_of(record.values)
        line = record.line
        if lost:
            values = {key: value for key, value in record.values.items() if key != "messages"}
            line = json.dumps({**values, "text": text}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        yield line if line.endswith(b"\n") else line + b"\n", held_out > 0, lost


def _write_duplicates(
    store: Store, dropped: Dropped, items: dict[int, str], path: Path, at_once: int = 4096
) -> list[dict[str, Any]]:
    """Write {id, rule, of, similarity} of every dropped document; returns some near ones with their texts.

    ``of`` is the document that stays, or from ``items`` the evaluation item that a contaminated one holds.
    """
    near = np.flatnonzero(dropped.rule == RULES.index("near"))
    near = near[np.argsort(dropped.similarity[near], kind="stable")]
    shown = set(near[np.unique(np.linspace(0, max(0, len(near) - 1), EXAMPLES).astype(int))].tolist()) if len(near) else set()
    examples = []
    with atomic_write(path) as stream:
        for begin in range(0, len(dropped.number), at_once):
            part = slice(begin, begin + at_once)
            number, of = dropped.number[part], dropped.of[part]
            wanted = np.unique(np.concatenate((number, of[of >= 0])))
            records = dict(zip(wanted.tolist(), store.records(wanted)))
            for place, (gone, stays) in enumerate(zip(number.tolist(), of.tolist()), begin):
                line = {
                    "id": records[gone]["id"], "rule": RULES[dropped.rule[place]],
                    "of": records[stays]["id"] if stays >= 0 else items.get(gone), "similarity": round(float(dropped.similarity[place]), 4),
                }
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                if place in shown:
                    examples.append({**line, "text": records[gone]["text"][:EXCERPT], "of_text": records[stays]["text"][:EXCERPT]})
    return sorted(examples, key=lambda example: -example["similarity"])
