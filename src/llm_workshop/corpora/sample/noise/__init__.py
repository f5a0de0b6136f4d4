"""Faults injected into clean documents on purpose, each with a label that says what was done.

``inject`` is a stream: documents in, documents out, about ``rate`` of the output being noisy. Two families:

- *changed* documents: the text of one input document was damaged (HTML remains, mojibake, personal data...);
- *added* documents: an extra document that should not be there (a duplicate, spam, another language, gibberish).

Every noisy document carries exactly one label in ``Document.noise``; a clean one is passed on as the same
object. ``restore`` gives back the clean text of a changed document, so that a cleaner can be graded on what
it returns and not only on what it drops.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from llm_workshop.corpora.document import Document
from llm_workshop.corpora.sample.noise.damage import CHANGES, Unfit
from llm_workshop.corpora.sample.noise.damage import restore_text as _restore_text
from llm_workshop.corpora.sample.noise.duplicates import near_duplicate
from llm_workshop.corpora.sample.noise.foreign import ADDITIONS

CHANGED_TYPES: tuple[str, ...] = tuple(CHANGES)
ADDED_TYPES: tuple[str, ...] = ("exact_duplicate", "near_duplicate", *ADDITIONS)
NOISE_TYPES: tuple[str, ...] = CHANGED_TYPES + ADDED_TYPES

_POOL_SIZE = 200  # recent clean documents that a duplicate may copy; bounds the memory of the stream
_MAX_BEFORE_ONE = 60  # documents added before one input document: the stream goes on even at rate 1
_TRIES = 4  # documents too short for one fault are offered another


def inject(
    documents: Iterable[Document],
    rate: float = 0.2,
    seed: int = 0,
    types: Sequence[str] | None = None,
) -> Iterator[Document]:
    """Pass documents on, about ``rate`` of the output noisy, lazily and deterministically.

    Args:
        documents: clean documents; their order is kept.
        rate: expected share of noisy documents in the output, 0 <= rate <= 1 (near 1 some stay clean: none is added without end).
        seed: the same seed, documents and arguments give the same output.
        types: which faults, each as likely as the next; default all of ``NOISE_TYPES``.

    A changed document keeps its id and its truth (about the clean text) and loses its ``messages``, which would
    no longer agree with the text. An added document has an id of its own; a duplicate names its original in
    ``label["of"]``, stands after it, and is always of the same split.

    Raises:
        ValueError: a rate outside [0, 1] or an unknown type.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"noise rate {rate} is outside [0, 1]; choose for example 0.2")
    chosen = tuple(NOISE_TYPES if types is None else types)
    for name in chosen:
        if name not in NOISE_TYPES:
            raise ValueError(f"unknown noise type {name!r}; choose from {', '.join(NOISE_TYPES)}")
    return _stream(documents, rate, seed, chosen) if chosen and rate else iter(documents)


def _stream(documents: Iterable[Document], rate: float, seed: int, types: tuple[str, ...]) -> Iterator[Document]:
    rng = random.Random(f"noise-{seed}")
    pools: dict[str, list[Document]] = {}
    number = 0
    for document in documents:
        changed = None
        for _ in range(_MAX_BEFORE_ONE):
            if rng.random() >= rate:
                break
            name = types[rng.randrange(len(types))]
            if name in CHANGES:
                changed = _change(document, name, types, rng)
                if changed is not None:
                    break
                continue
            pool = pools.get(document.split)
            added = _add(name, pool, document.split, number, rng)
            if added is not None:
                number += 1
                yield added
        if changed is not None:
            yield changed
            continue
        _remember(pools.setdefault(document.split, []), document, rng)
        yield document


def _remember(pool: list[Document], document: Document, rng: random.Random) -> None:
    if len(pool) < _POOL_SIZE:
        pool.append(document)
    else:
        pool[rng.randrange(_POOL_SIZE)] = document


def _change(document: Document, name: str, types: tuple[str, ...], rng: random.Random) -> Document | None:
    """The damaged document, or None where no fault of the chosen ones fits it (too short)."""
    candidates = [t for t in types if t in CHANGES]
    for _ in range(_TRIES):
        try:
            text, details = CHANGES[name](document.text, rng)
        except Unfit:
            name = candidates[rng.randrange(len(candidates))]
            continue
        return replace(document, text=text, messages=None, noise=({"type": name, **details},))
    return None


def _add(name: str, pool: list[Document] | None, split: str, number: int, rng: random.Random) -> Document | None:
    if name in ADDITIONS:
        text, details = ADDITIONS[name](rng)
        return Document(f"noise-{split}-{number:06d}", name, text, split, noise=({"type": name, **details},))
    if not pool:
        return None
    original = pool[rng.randrange(len(pool))]
    label: dict = {"type": name, "of": original.id}
    if name == "exact_duplicate":
        return replace(original, id=f"{original.id}~copy{number}", noise=(label,))
    text, details = near_duplicate(original.text, rng)
    return replace(
        original, id=f"{original.id}~near{number}", text=text, messages=None, noise=({**label, **details},)
    )


def restore(document: Document) -> str | None:
    """The clean text of a document: itself where it is clean, the text before the damage where it was changed,
    None where the whole document is noise (duplicates, spam, other languages, gibberish)."""
    if not document.noise:
        return document.text
    label = document.noise[0]
    return _restore_text(document.text, label) if label["type"] in CHANGES else None
