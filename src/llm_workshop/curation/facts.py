"""What a rule, a shard and a whole corpus did: counts, samples and histograms that can be added up in any order.

Everything here depends on the documents alone, so that two runs give the same card.  How long the rules took does not:
seconds are kept apart.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from llm_workshop.curation.step import Drop

#: Samples kept of each rule: those whose ids hash lowest, whichever shard they are in.
SAMPLES = 5
#: Characters shown of a text.
EXCERPT = 160
#: Lower edges of the classes of a text's length (characters): 0, 1, 2, 4, ... and the share of Hangul (twentieths).
LENGTH_EDGES = (0, *(2**power for power in range(23)))
HANGUL_CLASSES = 20
#: Different values of a tag that are counted; the rest is "other".
TAG_VALUES = 100


class Samples:
    """A few texts, chosen by their ids: the same ones however the corpus is cut into shards."""

    def __init__(self, kept: Iterable[dict[str, Any]] = ()):
        self._heap: list[tuple[int, str, dict[str, Any]]] = []
        for sample in kept:
            self._push(sample["id"], sample)

    def wants(self, identifier: str) -> bool:
        return len(self._heap) < SAMPLES or (-crc32(identifier.encode("utf-8", "replace")), identifier) > self._heap[0][:2]

    def add(self, identifier: str, **values: Any) -> None:
        self._push(identifier, {"id": identifier, **values})

    def _push(self, identifier: str, sample: dict[str, Any]) -> None:
        entry = (-crc32(identifier.encode("utf-8", "replace")), identifier, sample)
        if any(entry[:2] == other[:2] for other in self._heap):
            return
        (heapq.heappush if len(self._heap) < SAMPLES else heapq.heappushpop)(self._heap, entry)

    def sorted(self) -> list[dict[str, Any]]:
        return [sample for *_, sample in sorted(self._heap, reverse=True)]


@dataclass
class RuleFacts:
    """What one rule of the recipe did to the texts that reached it."""

    name: str
    seen: int = 0
    changed: int = 0
    dropped: int = 0
    characters_removed: int = 0
    reasons: Counter = field(default_factory=Counter)
    changes: Samples = field(default_factory=Samples)
    drops: Samples = field(default_factory=Samples)

    def note_change(self, identifier: str, before: str, after: str) -> None:
        self.changed += 1
        self.characters_removed += len(before) - len(after)
        if self.changes.wants(identifier):
            left, right = excerpts(before, after)
            self.changes.add(identifier, before=left, after=right)

    def note_drop(self, identifier: str, text: str, drop: Drop) -> None:
        self.dropped += 1
        self.reasons[drop.reason] += 1
        if self.drops.wants(identifier):
            self.drops.add(identifier, reason=drop.reason, detail=drop.detail, start=text[:EXCERPT])

    def as_values(self) -> dict[str, Any]:
        return {
            "name": self.name, "seen": self.seen, "changed": self.changed, "dropped": self.dropped,
            "characters_removed": self.characters_removed, "reasons": dict(sorted(self.reasons.items())),
            "changes": self.changes.sorted(), "drops": self.drops.sorted(),
        }  # fmt: skip


@dataclass
class Histograms:
    """Documents by their length and by their share of Hangul."""

    length: np.ndarray = field(default_factory=lambda: np.zeros(len(LENGTH_EDGES), np.int64))
    hangul: np.ndarray = field(default_factory=lambda: np.zeros(HANGUL_CLASSES + 1, np.int64))
    documents: int = 0
    characters: int = 0

    def add(self, texts: Sequence[str]) -> None:
        """All texts at once: one array of code points instead of a loop over characters."""
        if not texts:
            return
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
        syllables = np.concatenate([[0], np.cumsum((points >= 0xAC00) & (points <= 0xD7A3))])
        ends = np.cumsum(lengths)
        shares = (syllables[ends] - syllables[ends - lengths]) / np.maximum(lengths, 1)
        self.length += np.bincount(np.searchsorted(LENGTH_EDGES, lengths, "right") - 1, minlength=len(self.length))
        self.hangul += np.bincount((shares * HANGUL_CLASSES).astype(int), minlength=len(self.hangul))
        self.documents += len(texts)
        self.characters += int(ends[-1])

    def as_values(self) -> dict[str, Any]:
        return {
            "documents": self.documents, "characters": self.characters,
            "length": self.length.tolist(), "hangul": self.hangul.tolist(),
        }  # fmt: skip


class TagCounts:
    """How often each value of each tag occurred; figures (scores) are left out, counts by kind are added up."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter] = {}

    def add(self, tags: dict[str, Any]) -> None:
        for name, value in tags.items():
            if isinstance(value, (str, bool)):
                self._count(name, str(value), 1)
            elif isinstance(value, dict):
                for kind, number in value.items():
                    if isinstance(number, int):
                        self._count(name, str(kind), number)
            elif isinstance(value, (list, tuple)):
                for item in value:
                    if isinstance(item, str):
                        self._count(name, item, 1)

    def _count(self, name: str, value: str, number: int) -> None:
        counts = self._counts.setdefault(name, Counter())
        counts[value if value in counts or len(counts) < TAG_VALUES else "other"] += number

    def merge(self, values: dict[str, dict[str, int]]) -> None:
        for name, counts in values.items():
            for value, number in counts.items():
                self._count(name, value, number)

    def as_values(self) -> dict[str, dict[str, int]]:
        return {name: dict(sorted(counts.items())) for name, counts in sorted(self._counts.items())}


def merge_facts(shards: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The facts of all shards as one; the order matters only for which of more than TAG_VALUES values are counted."""
    total: dict[str, Any] = {}
    tags = TagCounts()
    for facts in shards:
        tags.merge(facts["tags"])
        if not total:
            total = json.loads(json.dumps({key: facts[key] for key in ("rules", "before", "after")}))
            continue
        for mine, other in zip(total["rules"], facts["rules"], strict=True):
            for key in ("seen", "changed", "dropped", "characters_removed"):
                mine[key] += other[key]
            mine["reasons"] = dict(sorted((Counter(mine["reasons"]) + Counter(other["reasons"])).items()))
            for key in ("changes", "drops"):
                mine[key] = Samples([*mine[key], *other[key]]).sorted()
        for side in ("before", "after"):
            mine, other = total[side], facts[side]
            for key in ("documents", "characters"):
                mine[key] += other[key]
            for key in ("length", "hangul"):
                mine[key] = [a + b for a, b in zip(mine[key], other[key], strict=True)]
    return {**total, "tags": tags.as_values()}


def excerpts(before: str, after: str, length: int = EXCERPT) -> tuple[str, str]:
    """The same stretch of both texts, around the first place where they differ."""
    low, high = 0, min(len(before), len(after))
    while low < high:  # the longest common start, by halves: slices compare fast
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    start = max(0, low - length // 4)
    mark = "…" if start else ""
    return mark + before[start : start + length], mark + after[start : start + length]
