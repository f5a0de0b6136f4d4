"""The shards, and what is known of their documents: arrays in files, so that memory does not grow with the corpus.

Documents are numbered through all shards, in order.  Whatever is finished lies in the work folder as a whole file;
after an interruption, be it by ``kill -9``, only what is missing is done.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm_workshop.curation.dedup.exact import fold
from llm_workshop.curation.dedup.lines import without_lines
from llm_workshop.curation.dedup.settings import DedupSettings
from scratch_llm.io import atomic_write

#: Columns of a shard's table, int64: where a document's line is, its bytes, characters of the folded text, held out or not.
OFFSET, BYTES, CHARACTERS, VALID = range(4)


class Record(NamedTuple):
    """A document of a shard; ``values`` is all of its JSON, keys that we do not know included."""

    offset: int
    line: bytes
    values: dict[str, Any]


def read_records(path: Path) -> Iterator[Record]:
    """The documents of a shard in order; ValueError names the file and the line that is none."""
    offset = 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield Record(offset, line, parse_record(line, f"{path}, line {number}"))
            offset += len(line)


def parse_record(line: bytes, place: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
        if isinstance(values["text"], str) and isinstance(values["id"], str):
            return values
        problem = "its id and text must be strings"
    except (ValueError, KeyError, TypeError) as error:
        problem = repr(error)
    raise ValueError(f"{place} is not a document ({problem}); rebuild it with 'make week2-clean FORCE=1'")


class Store:
    """The documents of ``shards`` and the arrays about them in ``work``.

    Work of other shards or other settings in the same folder is deleted, unless ``fresh`` is False (a worker process,
    which finds it as the main process left it).
    """

    def __init__(self, shards: Sequence[Path], work: Path, settings: DedupSettings, fresh: bool = True):
        self.shards, self.work, self.settings = tuple(shards), work, settings
        if fresh:
            self._claim()

    def _claim(self) -> None:
        stats = [(path.name, path.stat()) for path in self.shards]
        identity = [self.settings.model_dump(mode="json"), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]
        text = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        mark = self.work / "identity"
        if mark.is_file() and mark.read_text() == text:
            for partial in self.work.glob(".*.partial"):  # left by a kill
                partial.unlink(missing_ok=True)
            return
        shutil.rmtree(self.work, ignore_errors=True)
        with atomic_write(mark) as stream:
            stream.write(text)

    def path(self, name: str, number: int) -> Path:
        return self.work / f"{name}-{number:05d}.npy"

    def has(self, name: str, number: int) -> bool:
        return self.path(name, number).is_file()

    def save(self, name: str, number: int, values: np.ndarray) -> None:
        with atomic_write(self.path(name, number), "wb") as stream:
            np.save(stream, values)

    def load(self, name: str, number: int) -> np.ndarray:
        """An array as it lies in its file: only the parts that are used come into memory."""
        path = self.path(name, number)
        # A file without elements cannot be mapped.
        return np.load(path, mmap_mode="r") if path.stat().st_size > 128 else np.load(path)

    @cached_property
    def bounds(self) -> np.ndarray:
        """Number of the first document of each shard, and of all documents."""
        return np.concatenate(([0], np.cumsum([len(self.load("table", s)) for s in range(len(self.shards))]))).astype(np.int64)

    @cached_property
    def frequent(self) -> frozenset[int]:
        """Hashes of the lines that are taken out."""
        return frozenset(self.load("frequent", 0).tolist())

    def text_of(self, values: dict[str, Any]) -> tuple[str, list[str]]:
        """A document's text without the frequent lines, and those lines."""
        if self.settings.lines is None:
            return values["text"], []
        return without_lines(values.get("kind", ""), values["text"], self.frequent, self.settings.lines)

    def records(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Documents by their numbers, in rising order; each shard is opened once."""
        numbers, bounds = np.asarray(numbers, dtype=np.int64), self.bounds
        found = []
        for shard in np.unique(np.searchsorted(bounds, numbers, side="right") - 1).tolist():
            table = self.load("table", shard)
            inside = numbers[(numbers >= bounds[shard]) & (numbers < bounds[shard + 1])] - bounds[shard]
            with open(self.shards[shard], "rb") as stream:
                for row in inside.tolist():
                    stream.seek(int(table[row, OFFSET]))
                    line = stream.read(int(table[row, BYTES]))
                    found.append(parse_record(line, f"{self.shards[shard]}, byte {table[row, OFFSET]}"))
        return found

    def folded_texts(self, numbers: Sequence[int]) -> list[str]:
        return [fold(self.text_of(values)[0]) for values in self.records(numbers)]

    def missing(self, name: str, count: int) -> list[int]:
        """Which of the arrays name-0 ... name-(count - 1) are still to be made."""
        return [number for number in range(count) if not self.has(name, number)]

    def column(self, column: int) -> np.ndarray:
        """One column of the table of all documents, int64."""
        parts = [np.asarray(self.load("table", s)[:, column]) for s in range(len(self.shards))]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)
