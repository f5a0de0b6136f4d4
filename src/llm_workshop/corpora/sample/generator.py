"""The engine of the embedded sample: an endless, seeded, resumable stream of Korean documents with their truth.

Document ``index`` of a split is a function of (seed, split, kinds, index) alone: it is drawn from its own
``random.Random`` stream, so a corpus may be made in any order and size, and a longer one begins with the shorter.

The two splits cannot share a text, whatever the seeds: the digest of a text decides to which split it belongs
(one in ``HELD_OUT_ONE_IN`` is held out), and a draft that falls on the wrong side is drawn again.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from zlib import crc32

from llm_workshop.corpora.document import Document

from .draft import Draft, messages_as_text
from .world import World

SPLITS = ("train", "valid")
HELD_OUT_ONE_IN = 8  # a valid document costs about 8 drafts, a train document 8/7
_MAX_DRAFTS = 2000


def kinds_registry() -> dict[str, tuple[Callable[[random.Random, World], Draft], float]]:
    """name -> (make, weight); weights are shares of documents, not of bytes."""
    from .kinds import KINDS

    return KINDS


@lru_cache(maxsize=4)
def world_of(seed: int) -> World:
    """The world of a seed: both splits and every kind speak of the same one."""
    return World(seed)


def split_of(text: str) -> str:
    """The only split in which ``text`` may appear."""
    return "valid" if crc32(text.encode("utf-8")) % HELD_OUT_ONE_IN == 0 else "train"


def choose_kinds(kinds: Iterable[str] | str | None) -> tuple[str, ...]:
    """Check names of kinds; None means all of them, in the registry's order."""
    known = kinds_registry()
    if kinds is None:
        return tuple(known)
    chosen = tuple(name.strip() for name in kinds.split(",")) if isinstance(kinds, str) else tuple(kinds)
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        name = repr(unknown[0]) if unknown else "an empty list"
        raise ValueError(f"unknown kind of sample document: {name}; choose from {', '.join(known)}")
    return tuple(name for name in known if name in chosen)


class _Plan:
    """Kinds with their makers and cumulative weights, worked out once."""

    def __init__(self, kinds: tuple[str, ...]):
        registry = kinds_registry()
        self.names = kinds
        self.makers = [registry[name][0] for name in kinds]
        weights = list(accumulate(registry[name][1] for name in kinds))
        self.total, self.weights = weights[-1], weights


@lru_cache(maxsize=64)
def _plan(kinds: tuple[str, ...]) -> _Plan:
    return _Plan(kinds)


def make_document(index: int, seed: int = 0, split: str = "train", kinds: tuple[str, ...] | None = None) -> Document:
    """Document number ``index`` of a split, without noise."""
    plan, world = _plan(choose_kinds(kinds)), world_of(seed)
    rng = random.Random(f"{seed}/{split}/{index}")
    which = bisect(plan.weights, rng.random() * plan.total)
    which = min(which, len(plan.makers) - 1)
    for _ in range(_MAX_DRAFTS):
        draft = plan.makers[which](rng, world)
        text = draft.text or messages_as_text(draft.messages)
        if "  " in text:
            raise AssertionError(f"kind {plan.names[which]!r} made a double space: {text!r}")
        if split_of(text) == split:
            return Document(
                id=f"{split}-{index:08d}",
                kind=plan.names[which],
                text=text,
                split=split,
                messages=None if draft.messages is None else tuple(draft.messages),
                truth=draft.truth,
            )
    raise AssertionError(f"kind {plan.names[which]!r} gives no document for split {split!r}: it has too little variety")


def _clean_documents(size: int, seed: int, split: str, kinds: tuple[str, ...], start: int) -> Iterator[Document]:
    written, index, seen = 0, start, set()
    repeated = 0
    while written < size:
        document = make_document(index, seed, split, kinds)
        index += 1
        key = hash_of(document.text)
        if key in seen:  # an exact repetition that nobody injected would spoil the truth of the deduplication lab
            repeated += 1
            if repeated > 20_000:
                raise ValueError(
                    f"kinds {', '.join(kinds)} ran out of new documents after {written:,} bytes; ask for fewer megabytes or more kinds"
                )
            continue
        repeated = 0
        seen.add(key)
        written += len(document.text.encode("utf-8"))
        yield document


def hash_of(text: str) -> int:
    """A 64-bit digest that does not depend on PYTHONHASHSEED."""
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")


def generate(
    megabytes: float,
    seed: int = 0,
    split: str = "train",
    kinds: Iterable[str] | str | None = None,
    noise: float = 0.0,
    *,
    start: int = 0,
) -> Iterator[Document]:
    """Documents until their texts hold ``megabytes`` x 1e6 UTF-8 bytes (before noise is added).

    ``kinds`` limits the kinds (names, or one comma-separated string); ``noise`` is the share of documents that get an
    injected, labelled fault; ``start`` is the first index (to go on after an earlier part; repetitions of texts of that
    part are then not looked for). ValueError for bad arguments, at the call and not at the first document.
    """
    if not isinstance(megabytes, (int, float)) or not 0 < megabytes < float("inf"):
        raise ValueError(f"megabytes must be a number greater than 0, got {megabytes!r}")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"seed must be a whole number, got {seed!r}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}")
    if not isinstance(noise, (int, float)) or not 0 <= noise <= 1:
        raise ValueError(f"noise must be between 0 and 1 (the share of documents with a fault), got {noise!r}")
    if not isinstance(start, int) or start < 0:
        raise ValueError(f"start must be a whole number of at least 0, got {start!r}")
    documents = _clean_documents(int(megabytes * 1_000_000), seed, split, choose_kinds(kinds), start)
    if noise:
        from .noise import inject

        return inject(documents, noise, seed)
    return documents
