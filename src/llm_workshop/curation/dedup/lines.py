"""Lines that stand in many documents: menus, notices, footers, which no rule knows by name.

Two passes: the first counts in how many documents each line stands, the second takes the frequent ones out.  Counts
are kept as sorted arrays of hashes in files, one for each shard, and merged range by range: memory does not grow with
the corpus.  CCNet does this with paragraphs (Wenzek et al. 2020, "CCNet: Extracting High Quality Monolingual Datasets
from Web Crawl Data").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from llm_workshop.curation.dedup.lsh import SORT_AT_ONCE, key_ranges
from llm_workshop.curation.dedup.settings import LineSettings
from llm_workshop.curation.dedup.shingles import hash_texts


def countable(text: str, settings: LineSettings) -> list[str]:
    """The lines of a document that may be counted and removed, stripped, each once."""
    lines = dict.fromkeys(line.strip() for line in text.split("\n"))
    return [line for line in lines if len(line) >= settings.min_characters]


def count_lines(documents: Iterable[tuple[str, str]], settings: LineSettings, at_once: int = 4096) -> np.ndarray:
    """uint64 (2, lines): sorted hashes, and in how many of the documents (kind, text) each line stands."""
    counts = np.zeros((2, 0), dtype=np.uint64)
    waiting: list[str] = []
    for kind, text in documents:
        if kind not in settings.skip_kinds:
            waiting += countable(text, settings)
        if len(waiting) >= at_once * 16:
            counts, waiting = _merged([counts, _counted(waiting)]), []
    return _merged([counts, _counted(waiting)])


def _counted(lines: list[str]) -> np.ndarray:
    return np.stack([part.astype(np.uint64) for part in np.unique(hash_texts(lines), return_counts=True)])


def _merged(counts: Sequence[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(counts, axis=1)
    hashes, places = np.unique(joined[0], return_inverse=True)
    totals = np.zeros(len(hashes), dtype=np.uint64)
    np.add.at(totals, places, joined[1])
    return np.stack((hashes, totals))


def frequent_lines(counts: Sequence[np.ndarray], min_documents: int, at_once: int = SORT_AT_ONCE) -> np.ndarray:
    """Sorted uint64 hashes of the lines in at least ``min_documents`` documents; ``counts`` of the shards (mapped files)."""
    found = [np.zeros(0, np.uint64)]
    for low, high in key_ranges(sum(count.shape[1] for count in counts), at_once):
        parts = []
        for count in counts:
            begin = np.searchsorted(count[0], np.uint64(low), side="left")
            end = np.searchsorted(count[0], np.uint64(high), side="right")
            parts.append(np.asarray(count[:, begin:end]))
        if parts:
            hashes, totals = _merged(parts)
            found.append(hashes[totals >= min_documents])
    return np.concatenate(found)


def without_lines(kind: str, text: str, frequent: frozenset[int], settings: LineSettings) -> tuple[str, list[str]]:
    """The text without its frequent lines (the same object if it has none), and the lines taken out."""
    if not frequent or kind in settings.skip_kinds:
        return text, []
    lines = countable(text, settings)
    removed = {line for line, key in zip(lines, hash_texts(lines).tolist(), strict=True) if key in frequent}
    if not removed:
        return text, []
    kept = [line for line in text.split("\n") if line.strip() not in removed]
    return "\n".join(kept).strip("\n"), sorted(removed)
