"""Stage ``raw``: everything of DATA as documents in shards; what cannot be read is set aside in ``quarantine.jsonl``."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from llm_workshop.artifacts import Artifacts, make_command
from llm_workshop.corpora.document import Document
from llm_workshop.corpora.sample.generator import generate
from llm_workshop.curation.lines import EMPTY_FILE, Broken
from llm_workshop.curation.pipeline import naming_a_full_disk
from llm_workshop.curation.shards import raw_name
from llm_workshop.curation.sources import Source
from llm_workshop.progress import progress_bar
from scratch_llm.io import atomic_write

QUARANTINE = "quarantine.jsonl"
#: Its copy beside the stages where too much was broken, and the stage was not made.
LEFT_OVER = "raw-quarantine.jsonl"
MEGABYTE = 1_000_000
#: The held-out part of the sample: this share of its size, but never less than so much (MB).
VALID_SHARE, VALID_MINIMUM_MB = 0.02, 0.1
#: Progress is shown each time when so many bytes have gone by.
SHOW_EVERY = 100_000
#: Broken records are weighed against all for the first time after so many.
JUDGED_FROM = 10_000


def build_raw(artifacts: Artifacts, force: bool | None = None, again: str = "") -> Path:
    """The documents of every DATA name, in order, in shards of ``curation.shard_megabytes``.

    The sample gets labelled noise (``curation.noise``); files are taken as they are, ``curation.megabytes`` of each name
    at most.  ValueError if more than ``curation.broken_share`` of the records are broken, or if there is no text at all;
    ``again`` is the command that takes them all the same, for its message.
    """
    settings = artifacts.settings
    sources = {name: Source(name, settings.curation.text_fields) for name in settings.data if name != "sample"}
    curation = settings.curation.model_dump(include={"megabytes", "noise", "shard_megabytes", "broken_share", "text_fields"})
    used = {
        "data": settings.data, "seed": settings.seed, "curation": curation, "kinds": settings.corpus.kinds,
        "files": {name: source.fingerprint() for name, source in sources.items()},
    }  # fmt: skip
    if artifacts.skip_if_current("raw", used, force=force):
        return artifacts.path("raw")
    again = again or make_command(settings, "week2-collect", "curation.broken_share=1")
    (artifacts.root / LEFT_OVER).unlink(missing_ok=True)  # of a run that stopped: it says nothing of this one
    with naming_a_full_disk(artifacts.root), artifacts.write_stage("raw", used) as stage:
        seen = _Intake(stage.folder, settings.curation.broken_share, again)
        try:
            size = int(settings.curation.shard_megabytes * MEGABYTE)
            stage.metrics["shards"] = _write_shards(seen.documents(_everything(artifacts, sources)), stage.folder, size)
            seen.judge(at_the_end=True)
        except ValueError as error:
            raise ValueError(f"{error}{seen.save_quarantine(artifacts.root)}") from None
        finally:
            seen.close()
        stage.metrics.update(seen.metrics())
        if not seen.count:
            raise ValueError(f"DATA={','.join(settings.data)} holds no text: choose another corpus, or DATA=sample")
    return artifacts.path("raw")


def _everything(artifacts: Artifacts, sources: dict[str, Source]) -> Iterator[Document | Broken]:
    settings = artifacts.settings
    for name in settings.data:
        cap = settings.curation.megabytes
        if name == "sample":
            cap = cap or 1.0
            for split, size in (("train", cap), ("valid", max(VALID_MINIMUM_MB, cap * VALID_SHARE))):
                documents = generate(size, settings.seed, split, settings.corpus.kinds, settings.curation.noise)
                yield from _with_progress(documents, f"{name} ({split})", size)
        else:
            yield from _with_progress(sources[name], name, cap, sources[name])


def _with_progress(items: Iterable[Document | Broken], name: str, cap: float | None, source: Source | None = None) -> Iterator[Document | Broken]:
    """Pass everything on and show how far it is; documents of a source end after ``cap`` megabytes of text."""
    done = shown = 0
    by_file = source is not None and source.size and cap is None
    with progress_bar(f"reading {name} (MB)", source.size / MEGABYTE if by_file else cap) as update:
        for item in items:
            yield item
            if isinstance(item, Document):
                done += len(item.text.encode("utf-8", "surrogatepass"))
                if source is not None and cap is not None and done >= cap * MEGABYTE:
                    return
            place = source.position() if by_file else done
            if place - shown >= SHOW_EVERY:
                shown = place
                update(place / MEGABYTE)


class _Intake:
    """Counts what comes in and sets broken records aside, until they are too many."""

    def __init__(self, folder: Path, broken_share: float, again: str):
        self.count = self.empty = self.broken = 0
        self._share, self._again = broken_share, again
        self._splits, self._kinds, self._noise, self._reasons = Counter(), Counter(), Counter(), Counter()
        self._first: list[Broken] = []
        self._stack = ExitStack()
        self._path = folder / QUARANTINE
        self._quarantine = self._stack.enter_context(open(self._path, "w", encoding="utf-8"))

    def documents(self, items: Iterable[Document | Broken]) -> Iterator[Document]:
        for item in items:
            if isinstance(item, Broken) and item.reason == EMPTY_FILE:
                self.empty += 1
            elif isinstance(item, Broken):
                self._set_aside(item)
            elif not item.text.strip():
                self.empty += 1
            else:
                self.count += 1
                self._splits[item.split] += 1
                self._kinds[item.kind] += 1
                for label in item.noise:
                    self._noise[label["type"]] += 1
                yield item

    def _set_aside(self, item: Broken) -> None:
        self.broken += 1
        self._reasons[item.reason] += 1
        if len(self._first) < 3:
            self._first.append(item)
        line = json.dumps(item.as_values(), ensure_ascii=False)
        self._quarantine.write(line.encode("utf-8", "replace").decode() + "\n")
        self.judge()

    def judge(self, at_the_end: bool = False) -> None:
        """ValueError if the broken ones are more than the share allowed of what has been read."""
        total = self.count + self.empty + self.broken
        if (at_the_end or total >= JUDGED_FROM) and self.broken > self._share * total:
            reasons = ", ".join(f"{reason}: {number:,}" for reason, number in self._reasons.most_common())
            first = "; ".join(f"{item.file}, line {item.line}: {item.reason}{f' ({item.detail})' if item.detail else ''}" for item in self._first)
            raise ValueError(
                f"{self.broken:,} of {total:,} records are broken ({reasons}), more than curation.broken_share={self._share:g} allows. "
                f"First: {first}. Mend or remove the files, or take them as they are: {self._again}"
            )

    def save_quarantine(self, root: Path) -> str:
        """Keep the list beside the stages, as this stage will not be there; returns the words that say so."""
        self.close()
        if not self.broken or not self._path.is_file():
            return ""
        with atomic_write(root / LEFT_OVER) as stream, open(self._path, encoding="utf-8") as source:
            stream.writelines(source)
        return f" (all of them: {root / LEFT_OVER})"

    def close(self) -> None:
        self._stack.close()

    def metrics(self) -> dict[str, Any]:
        return {
            "documents": self.count, "empty": self.empty, "broken": self.broken, "broken_reasons": dict(sorted(self._reasons.items())),
            "splits": dict(sorted(self._splits.items())), "kinds": dict(sorted(self._kinds.items())), "noise": dict(sorted(self._noise.items())),
        }  # fmt: skip


def _write_shards(documents: Iterator[Document], folder: Path, size: int) -> int:
    """Shards of at least ``size`` bytes of JSON lines each, but for the last; returns how many."""
    number, first = 0, next(documents, None)
    while first is not None:
        written = 0
        with open(folder / raw_name(number), "wb") as stream:
            while first is not None and written < size:
                line = first.to_json().encode("utf-8", "replace") + b"\n"
                stream.write(line)
                written += len(line)
                first = next(documents, None)
            stream.flush()
            os.fsync(stream.fileno())
        number += 1
    return number
