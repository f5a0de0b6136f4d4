"""Which documents go, and which stand for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm_workshop.curation.dedup.exact import exact_duplicates
from llm_workshop.curation.dedup.lsh import pack, unpack
from llm_workshop.curation.dedup.stages import bands_of, part_bounds, run_stage, sort_band, verify_part
from llm_workshop.curation.dedup.store import BYTES, CHARACTERS, VALID, Store
from llm_workshop.curation.dedup.union_find import clusters, drop_similar
from llm_workshop.curation.dedup.verify import similarities

#: Fewer documents or pairs than this are sorted and compared in this process: starting others takes half a second.
WORTH_PROCESSES = 100_000
RULES = ("empty", "exact", "near", "contaminated")
NOBODY = -1


@dataclass(frozen=True)
class Dropped:
    """Documents to drop: int64 ``number`` (rising) and ``of`` (the number of who stands for it, or NOBODY), float64
    ``similarity`` of the two, int64 ``rule`` (a place in RULES)."""

    number: np.ndarray
    of: np.ndarray
    similarity: np.ndarray
    rule: np.ndarray

    @classmethod
    def by(cls, rule: str, number: np.ndarray, of: np.ndarray | None = None, similarity: np.ndarray | None = None) -> Dropped:
        of = np.full(len(number), NOBODY, np.int64) if of is None else of
        similarity = np.ones(len(number)) if similarity is None else similarity
        order = np.argsort(number)
        return cls(number[order], of[order], similarity[order], np.full(len(number), RULES.index(rule)))

    def joined(self, other: Dropped) -> Dropped:
        """Both; where ``other`` drops who stood for a document of ours, who stands for that one takes its place."""
        places = np.minimum(np.searchsorted(other.number, self.of), max(0, len(other.number) - 1))
        gone = (other.number[places] == self.of) & (other.of[places] >= 0) if len(other.number) else np.zeros(len(self.of), bool)
        of, similarity = self.of.copy(), self.similarity.copy()
        of[gone], similarity[gone] = other.of[places[gone]], other.similarity[places[gone]]
        columns = [(self.number, other.number), (of, other.of), (similarity, other.similarity), (self.rule, other.rule)]
        joined = [np.concatenate(pair) for pair in columns]
        order = np.argsort(joined[0], kind="stable")
        return Dropped(*(column[order] for column in joined))


def rank(valid: np.ndarray, characters: np.ndarray, keep: str) -> np.ndarray:
    """Who is preferred, least first: what is held out, so that training does not hold its copy; then the longest, if so set.

    Equal ranks are decided by the order of the documents: the earliest.
    """
    return np.where(valid > 0, 0, 1 << 40) + ((1 << 39) - characters if keep == "longest" else 0)


def find_exact(store: Store) -> Dropped:
    """Empty documents, and all but one of those with one digest."""
    keep = store.settings.keep

    def load(shard: int) -> tuple[np.ndarray, np.ndarray]:
        table = store.load("table", shard)
        return store.load("digests", shard), rank(table[:, VALID], table[:, CHARACTERS], keep)

    empty = np.flatnonzero(store.column(CHARACTERS) == 0)
    found = Dropped.by("empty", empty)
    if store.settings.exact is None:
        return found
    number, of = exact_duplicates(len(store.shards), load, int(store.bounds[-1]))
    full = ~np.isin(number, empty)
    return found.joined(Dropped.by("exact", number[full], of[full]))


def find_near(store: Store, gone: np.ndarray, workers: int) -> tuple[Dropped, dict[str, int]]:
    """Near duplicates among the documents that are not ``gone``, and how many pairs were looked at and similar."""
    near = store.settings.near
    if near is None:
        return Dropped.by("near", np.zeros(0, np.int64)), {}
    bands = bands_of(near).bands
    if not store.has("alive", 0):
        alive = np.ones(store.bounds[-1], dtype=bool)
        alive[gone] = False
        store.save("alive", 0, alive)
    team = workers if store.bounds[-1] >= WORTH_PROCESSES else 1
    run_stage(store, sort_band, store.missing("pairs", bands), team, "candidate pairs (bands)")
    if not store.has("parts", 0):
        store.save("parts", 0, part_bounds(store, bands))
    parts = len(store.load("parts", 0)) - 1
    run_stage(store, verify_part, store.missing("similar", parts), workers if parts > 1 else 1, "comparing candidates (parts)")
    similar = np.concatenate([store.load("similar", part) for part in range(parts)])
    looked = sum(int(store.load("looked", part)[0]) for part in range(parts))
    return choose(store, similar), {"candidate_pairs": looked, "similar_pairs": len(similar)}


def choose(store: Store, similar: np.ndarray) -> Dropped:
    """Who goes, given the verified pairs (SIMILAR, sorted by pair)."""
    near = store.settings.near
    first, second = unpack(similar["pair"])
    involved, places = np.unique(np.concatenate((first, second)), return_inverse=True)
    ranks = rank(store.column(VALID)[involved], store.column(CHARACTERS)[involved], store.settings.keep)
    of = (clusters if near.chain else drop_similar)(*places.reshape(2, -1), ranks)
    drops = of != NOBODY
    number, of = involved[drops], involved[of[drops]]
    return Dropped.by("near", number, of, _similarity(store, similar, number, of))


def _similarity(store: Store, similar: np.ndarray, number: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Of each dropped document and who stands for it; members of a chain were perhaps never compared."""
    wanted = pack(number.astype(np.uint64), of.astype(np.uint64))
    places = np.minimum(np.searchsorted(similar["pair"], wanted), max(0, len(similar) - 1))
    found = similar["similarity"][places]
    unknown = np.flatnonzero(similar["pair"][places] != wanted)
    if len(unknown):
        order = np.argsort(wanted[unknown])
        near = store.settings.near
        found[unknown[order]] = similarities(wanted[unknown[order]], store.folded_texts, store.column(BYTES), near.unit, near.size)
    return found

