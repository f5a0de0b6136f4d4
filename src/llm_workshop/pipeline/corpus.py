"""Stage 1: gather documents into ``train.jsonl`` and ``valid.jsonl``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.document import Document, read_documents
from llm_workshop.corpora.loaders import load_documents
from llm_workshop.corpora.sample.generator import generate
from llm_workshop.progress import progress_bar
from scratch_llm.io import atomic_write

#: The held-out part of the sample: this share of its size, but never less than 100 kB.
VALID_SHARE, VALID_MINIMUM_MB = 0.02, 0.1
MEGABYTE = 1_000_000


def build_corpus(artifacts: Artifacts, force: bool | None = None) -> Path:
    """Collect the documents of every DATA name, in order; ``ValueError`` if there is no text at all.

    With ``corpus.curated`` they are those of the stage ``curated``, which week 2 made of DATA; ``corpus.megabytes`` caps
    what is trained on all the same.
    """
    settings = artifacts.settings
    used = {"data": settings.data, "seed": settings.seed, "corpus": settings.corpus}
    inputs = ("curated",) if settings.corpus.curated else ()
    if inputs:
        artifacts.require("curated")
    if artifacts.skip_if_current("corpus", used, inputs, force=force):
        return artifacts.path("corpus")
    with artifacts.write_stage("corpus", used, inputs) as stage:
        documents = _curated_documents(artifacts) if inputs else _all_documents(artifacts)
        documents = _with_held_out(_non_empty(documents))
        stage.metrics.update(_write_splits(documents, stage.folder))
        if not stage.metrics["train"]["documents"]:
            raise ValueError(f"DATA={','.join(settings.data)} holds no text: choose another corpus, or DATA=sample")
    return artifacts.path("corpus")


_Named = tuple[str | None, Document]  # a document and the name in DATA that it is from; None: not known


def _all_documents(artifacts: Artifacts) -> Iterator[_Named]:
    corpus, seed = artifacts.settings.corpus, artifacts.settings.seed
    for name in artifacts.settings.data:
        if name == "sample":
            megabytes = corpus.megabytes or 1.0
            valid = max(VALID_MINIMUM_MB, megabytes * VALID_SHARE)
            for split, size in (("train", megabytes), ("valid", valid)):
                documents = generate(size, seed=seed, split=split, kinds=corpus.kinds, noise=corpus.noise)
                yield from ((name, document) for document in _with_progress(documents, f"{name} ({split})", size))
        else:
            documents = _with_progress(load_documents(name), name, corpus.megabytes, cut=True)
            yield from ((name, document) for document in documents)


def _curated_documents(artifacts: Artifacts) -> Iterator[_Named]:
    cap = artifacts.settings.corpus.megabytes
    for split in ("train", "valid"):
        documents = read_documents(artifacts.path("curated") / f"{split}.jsonl")
        yield from ((None, document) for document in _with_progress(documents, f"curated {split}", cap, cut=True))


def _with_progress(
    documents: Iterable[Document], name: str, megabytes: float | None, cut: bool = False
) -> Iterator[Document]:
    """Pass documents on, showing the megabytes so far; ``cut`` stops after ``megabytes``."""
    done = 0
    with progress_bar(f"reading {name} (MB)", megabytes) as update:
        for document in documents:
            yield document
            done += len(document.text.encode("utf-8", "surrogatepass"))
            update(done / MEGABYTE)
            if cut and megabytes is not None and done >= megabytes * MEGABYTE:
                return


def _non_empty(documents: Iterable[_Named]) -> Iterator[_Named]:
    return ((name, document) for name, document in documents if document.text.strip())


def _with_held_out(documents: Iterator[_Named]) -> Iterator[_Named]:
    """Make sure that something is held out: a small corpus gives up its last document, or its last part."""
    last, seen_valid, count = None, False, 0
    for named in documents:
        if last is not None:
            yield last
        last, count = named, count + 1
        seen_valid |= named[1].split == "valid"
    if last is None:
        return
    name, document = last
    if seen_valid:
        yield last
    elif count > 1:
        yield name, replace(document, split="valid")
    else:
        # A single document: its last tenth, from the next white space on, becomes the held-out part.
        cut = document.text.find(" ", len(document.text) * 9 // 10)
        cut = cut if cut > 0 else len(document.text) * 9 // 10
        yield name, replace(document, text=document.text[:cut], messages=None)
        yield name, replace(document, id=f"{document.id}#tail", text=document.text[cut:], messages=None, split="valid")


def _write_splits(documents: Iterable[_Named], folder: Path) -> dict[str, dict]:
    """Write both files; what they hold.  ``sources``: documents by the name in DATA, in the order in which they stand."""
    facts = {split: {"documents": 0, "bytes": 0, "kinds": Counter(), "sources": Counter()} for split in ("train", "valid")}
    with ExitStack() as stack:
        files = {split: stack.enter_context(atomic_write(folder / f"{split}.jsonl")) for split in facts}
        for name, document in documents:
            files[document.split].write(document.to_json() + "\n")
            split = facts[document.split]
            split["documents"] += 1
            split["bytes"] += len(document.text.encode("utf-8", "surrogatepass"))
            split["kinds"][document.kind] += 1
            if name is not None:
                split["sources"][name] += 1
    return {
        split: {**values, "kinds": dict(sorted(values["kinds"].items())), "sources": dict(values["sources"])}
        for split, values in facts.items()
    }
