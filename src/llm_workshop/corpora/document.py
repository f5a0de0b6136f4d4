"""One document of a corpus, with what we know to be true about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scratch_llm.io import atomic_write


@dataclass(frozen=True)
class Document:
    """A text with its kind, its split and its labels.

    ``messages`` holds chat turns (``{"role", "content"}``); ``text`` is then the same turns as plain text.
    ``truth`` holds what a lab may check (sentiment, answer, entailment...); ``noise`` names the faults
    that were injected on purpose, each as ``{"type": ..., ...details}``.
    """

    id: str
    kind: str
    text: str
    split: str = "train"
    messages: tuple[dict[str, str], ...] | None = None
    truth: dict = field(default_factory=dict)
    noise: tuple[dict, ...] = ()

    def to_json(self) -> str:
        """One JSON line; empty optional fields are left out."""
        record = {"id": self.id, "kind": self.kind, "text": self.text, "split": self.split}
        if self.messages is not None:
            record["messages"] = list(self.messages)
        if self.truth:
            record["truth"] = self.truth
        if self.noise:
            record["noise"] = list(self.noise)
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Document:
        record = json.loads(line)
        messages = record.get("messages")
        return cls(
            id=record["id"],
            kind=record["kind"],
            text=record["text"],
            split=record.get("split", "train"),
            messages=None if messages is None else tuple(messages),
            truth=record.get("truth", {}),
            noise=tuple(record.get("noise", ())),
        )


def write_documents(path: str | Path, documents: Iterable[Document]) -> int:
    """Write JSON lines atomically; returns how many documents were written."""
    count = 0
    with atomic_write(path) as stream:
        for document in documents:
            stream.write(document.to_json() + "\n")
            count += 1
    return count


def read_documents(path: str | Path) -> Iterator[Document]:
    """Read JSON lines lazily; a broken line is named with its number."""
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                yield Document.from_json(line)
            except (json.JSONDecodeError, KeyError) as error:
                raise ValueError(
                    f"{path}, line {number} is not a document ({error!r}); rebuild it with 'make corpus FORCE=1'"
                ) from None
