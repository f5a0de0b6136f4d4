"""Contamination: evaluation questions whose text stands in the training data, so that a model may know them by heart.

An item is cut into n-grams of ``words`` words (an item whose fields are all shorter, into such of ``min_words``; one
shorter than that, or with fewer different words, cannot be judged).  It is contaminated if *one* training document holds at least ``share`` of them;
that document is what is dropped.  Punctuation, case and white space do not count.

GPT-3 looked for 13-grams of words (Brown et al. 2020, appendix C), PaLM for 70 % of the 8-grams (Chowdhery et al. 2022,
section 8).  A Korean word between spaces carries its particles, so that 8 of them are about 12 English ones.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from llm_workshop.curation.dedup.choose import Dropped
from llm_workshop.curation.dedup.evaluation_sets import VALID, Item, evaluation_items
from llm_workshop.curation.dedup.exact import fold
from llm_workshop.curation.dedup.settings import ContaminationSettings
from llm_workshop.curation.dedup.shingles import shingles
from llm_workshop.curation.dedup.stages import batches, run_stage
from llm_workshop.curation.dedup.store import Store, read_records
from scratch_llm.io import atomic_write

_NO_WORD = re.compile(r"[\W_]+")
#: A training document (its place in what was asked), an item, and the share of the item's n-grams in the document.
HIT = np.dtype([("document", np.int64), ("item", np.int64), ("share", np.float64)])


def words_of(text: str) -> str:
    """The words, folded, with one space between them: "“안녕!” 하고" and "안녕 하고" are the same."""
    return _NO_WORD.sub(" ", fold(text)).strip()


class Index:
    """The n-grams of evaluation items, all of one length: sorted hashes, and whose they are."""

    def __init__(self, size: int, grams: np.ndarray, bounds: np.ndarray, owners: np.ndarray, needed: np.ndarray):
        self.size, self.grams, self.bounds, self.owners, self.needed = size, grams, bounds, owners, needed

    @classmethod
    def of(cls, size: int, items: Sequence[tuple[int, Sequence[str]]], count: int) -> Index:
        """``items``: (number, fields) of those that are cut this way, of ``count`` items in all."""
        parts = [np.zeros((0, 2), np.uint64)]
        for number, fields in items:
            own = np.unique(shingles([field for field in fields if len(field.split()) >= size], "word", size).hashes)
            parts.append(np.stack((own, np.full(len(own), number, np.uint64)), axis=1))
        pairs = np.concatenate(parts)
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        grams, starts = np.unique(pairs[:, 0], return_index=True)
        owners = pairs[:, 1].astype(np.int64)
        return cls(size, grams, np.append(starts, len(pairs)).astype(np.int64), owners, np.bincount(owners, minlength=count))

    def hits(self, texts: Sequence[str], share: float) -> np.ndarray:
        """HITs of at least ``share`` in texts of ``words_of``."""
        found = shingles(texts, "word", self.size)
        if not len(self.grams) or not len(found.hashes):
            return np.zeros(0, HIT)
        places = np.minimum(np.searchsorted(self.grams, found.hashes), len(self.grams) - 1)
        inside = np.flatnonzero(self.grams[places] == found.hashes)
        documents = np.searchsorted(found.bounds, inside, side="right") - 1
        documents, places = _unique_pairs(documents, places[inside], len(self.grams))[:2]
        # Every n-gram that was found counts for every item that holds it.
        times = self.bounds[places + 1] - self.bounds[places]
        steps = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        owners = self.owners[np.repeat(self.bounds[places], times) + steps]
        documents, items, counts = _unique_pairs(np.repeat(documents, times), owners, len(self.needed))
        hits = np.empty(len(items), HIT)
        hits["document"], hits["item"], hits["share"] = documents, items, counts / self.needed[items]
        return hits[hits["share"] >= share]


def _unique_pairs(first: np.ndarray, second: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different pairs (second < limit), and how often each occurs."""
    packed, counts = np.unique(first * limit + second, return_counts=True)
    return packed // limit, packed % limit, counts


def build_indexes(items: Iterable[Item], settings: ContaminationSettings) -> tuple[list[Index], list[str], np.ndarray]:
    """(indexes of long and of short items, names of the items, which of them can be judged)."""
    names, chosen = [], {settings.words: [], settings.min_words: []}
    for number, item in enumerate(items):
        names.append(item.name)
        fields = [words for words in map(words_of, item.fields) if len(set(words.split())) >= settings.min_words]
        longest = max((len(field.split()) for field in fields), default=0)
        size = settings.words if longest >= settings.words else settings.min_words
        if longest >= size:
            chosen[size].append((number, fields))
    indexes = [Index.of(size, some, len(names)) for size, some in chosen.items()]
    judged = np.zeros(len(names), dtype=bool)
    for some in chosen.values():
        judged[[number for number, _ in some]] = True
    return indexes, names, judged


def search_shard(store: Store, shard: int) -> None:
    """HITs of the training documents of a shard that are still there: ``hits-<shard>``, documents by their number."""
    settings, gone = store.settings.contamination, store.load("gone", 0)
    indexes = [Index(size, *(store.load(f"{name}{size}", 0) for name in _ARRAYS)) for size in {settings.words, settings.min_words}]
    start, found = int(store.bounds[shard]), [np.zeros(0, HIT)]
    for batch in batches(read_records(store.shards[shard])):
        places = [k for k, r in enumerate(batch, start) if r.values.get("split") != "valid" and not gone[k]]
        texts = [words_of(store.text_of(batch[k - start].values)[0]) for k in places]
        for index in indexes:
            hits = index.hits(texts, settings.share)
            hits["document"] = np.array(places, dtype=np.int64)[hits["document"]]
            found.append(hits)
        start += len(batch)
    store.save("hits", shard, np.concatenate(found))


_ARRAYS = ("grams", "bounds", "owners", "needed")


def find_contamination(store: Store, gone: np.ndarray, workers: int) -> tuple[Dropped, dict[int, str], list[dict[str, Any]]]:
    """Training documents that hold evaluation items, {document: name of the item}, and a row for each evaluation set.

    ``gone``: documents that are dropped already.  Items of "valid" are the held-out documents of the shards.
    """
    nothing = Dropped.by("contaminated", np.zeros(0, np.int64))
    settings = store.settings.contamination
    if settings is None:
        return nothing, {}, []
    names, judged = _prepare(store, gone, settings)
    run_stage(store, search_shard, store.missing("hits", len(store.shards)), workers, "looking for evaluation text (shards)")
    hits = np.concatenate([store.load("hits", shard) for shard in range(len(store.shards))])
    rows = _by_set(names, judged, hits)
    if not settings.remove or not len(hits):
        return nothing, {}, rows
    hits = hits[np.lexsort((hits["item"], -hits["share"], hits["document"]))]
    documents, first = np.unique(hits["document"], return_index=True)
    labels = {document: names[item] for document, item in zip(documents.tolist(), hits["item"][first].tolist())}
    return Dropped.by("contaminated", documents, similarity=hits["share"][first]), labels, rows


def _prepare(store: Store, gone: np.ndarray, settings: ContaminationSettings) -> tuple[list[str], np.ndarray]:
    """The indexes into the store, once; the names of the items, and which can be judged."""
    facts = store.work / "items.json"
    if not facts.is_file():
        flags = np.zeros(store.bounds[-1], dtype=bool)
        flags[gone] = True
        indexes, names, judged = build_indexes(_items(store, flags, settings.sets), settings)
        for index in indexes:
            for name in _ARRAYS:
                store.save(f"{name}{index.size}", 0, getattr(index, name))
        store.save("gone", 0, flags)
        with atomic_write(facts) as stream:
            json.dump({"names": names, "judged": judged.tolist()}, stream, ensure_ascii=False)
    values = json.loads(facts.read_text(encoding="utf-8"))
    return values["names"], np.array(values["judged"], dtype=bool)


def _items(store: Store, gone: np.ndarray, sets: Sequence[str]) -> Iterable[Item]:
    for name in sets:
        if name != VALID:
            yield from evaluation_items(name)
            continue
        number = 0
        for shard in store.shards:
            for record in read_records(shard):
                if record.values.get("split") == "valid" and not gone[number]:
                    yield Item(f"{VALID}/{record.values['id']}", (store.text_of(record.values)[0],))
                number += 1


def _by_set(names: Sequence[str], judged: np.ndarray, hits: np.ndarray) -> list[dict[str, Any]]:
    """A row for each evaluation set and file: its items, how many can be judged, how many are contaminated, by how much text."""
    groups = [VALID if name.startswith(f"{VALID}/") else name.rpartition(":")[0] for name in names]
    contaminated = np.zeros(len(names), dtype=bool)
    contaminated[hits["item"]] = True
    items, able, bad = Counter(groups), Counter(), Counter()
    documents: dict[str, set[int]] = {group: set() for group in groups}
    for number, group in enumerate(groups):
        able[group] += bool(judged[number])
        bad[group] += bool(contaminated[number])
    for document, item in zip(hits["document"].tolist(), hits["item"].tolist()):
        documents[groups[item]].add(document)
    return [
        {"set": group, "items": items[group], "judged": able[group], "contaminated": bad[group], "documents": len(documents[group])}
        for group in sorted(items)
    ]
