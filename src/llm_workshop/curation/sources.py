"""Reading people's files as documents, whatever state they are in: what cannot be read is set aside, with its place.

``corpora.loaders`` stops at the first broken line, which is right for data that ought to be in order.  Collected text
never is: here a broken record is yielded as ``Broken`` between the documents, and the caller decides how many are too many.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_workshop.corpora.catalogue import Corpus, find_corpus
from llm_workshop.corpora.document import Document
from llm_workshop.corpora.loaders import find_files, is_held_out, is_path, load_documents
from llm_workshop.curation.lines import MAX_LINE, SHOWN, Broken
from llm_workshop.curation.records import open_records

#: Fields that may hold the text, and the name, of a record in a file of which we know nothing.
TEXT_FIELDS = ("text", "document", "content", "body", "sentence")
#: What ``datasets`` writes beside its Arrow files.
_ABOUT_DATA = ("dataset_info.json", "dataset_dict.json", "state.json")


class Source:
    """One name of DATA: iterates over its documents and broken records.

    ``text_fields`` are those of files of one's own; a corpus of the catalogue has its own.  ``size`` and ``position()`` are bytes on disk, for progress (0 where a hub's data set has none).
    Raises ValueError for an unknown name, FileNotFoundError for a path where nothing is.
    """

    def __init__(self, name: str, text_fields: tuple[str, ...] | None = None):
        self.name = name
        self._fields = text_fields or TEXT_FIELDS
        self.files = _files_of_path(Path(name)) if is_path(name) or Path(name).exists() else ()
        self.corpus = None if self.files else find_corpus(name)
        if self.corpus:
            train, valid = find_files(self.corpus.train_files), find_files(self.corpus.valid_files)
            self._splits = dict.fromkeys(train, "train" if valid else None) | dict.fromkeys(valid, "valid")
            self.files = tuple(self._splits) if train else ()
        self.size = sum(path.stat().st_size for path in self.files)
        self._before, self._now = 0, None

    def position(self) -> int:
        return self._before + (self._now() if self._now else 0)

    def fingerprint(self) -> list[list[Any]]:
        """What tells that the files are others than last time: names, sizes, times."""
        return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in self.files]

    def __iter__(self) -> Iterator[Document | Broken]:
        if self.corpus and not self.files:
            yield from load_documents(self.name)
            return
        for path in self.files:
            fields = self.corpus or Corpus(path.name.split(".")[0], str(path), "yours", str(path), (), self._fields, id_field="id")
            to_document = _DocumentMaker(fields, path, self._splits[path] if self.corpus else None)
            records, self._now = open_records(path)
            for record in records:
                yield record if isinstance(record, Broken) else to_document(*record)
            self._before, self._now = self._before + path.stat().st_size, None


class _DocumentMaker:
    """Turns a record into a document, or says what it lacks."""

    def __init__(self, corpus: Corpus, path: Path, split: str | None):
        self.corpus, self.path, self.split = corpus, path, split

    def __call__(self, number: int, row: dict[str, Any]) -> Document | Broken:
        if not any(field in row for field in self.corpus.text_fields):
            has = ", ".join(map(str, row))
            return self._broken(number, "no text field", f"needs {' or '.join(self.corpus.text_fields)}; has {has}; say curation.text_fields=NAME", row)
        parts = [row[field] for field in self.corpus.text_fields if row.get(field) not in (None, "")]
        if not all(isinstance(part, str) for part in parts):
            return self._broken(number, "text is no string", str(type(parts[0]).__name__), row)
        text = whole_characters("\n\n".join(part.strip() for part in parts))
        if len(text) > MAX_LINE:
            return self._broken(number, "too long", f"{len(text):,} characters", row)
        name = row.get(self.corpus.id_field) if self.corpus.id_field else None
        name = name if isinstance(name, (str, int)) and name != "" else f"{self.path.name}:{number}"
        identifier = whole_characters(f"{self.corpus.name}/{name}")
        split = self.split or (row["split"] if row.get("split") in ("train", "valid") else None)
        split = split or ("valid" if is_held_out(identifier) else "train")
        truth = {field: row[field] for field in self.corpus.truth_fields if row.get(field) is not None}
        return Document(identifier, self.corpus.kind, text, split, truth=truth)

    def _broken(self, number: int, reason: str, detail: str, row: dict[str, Any]) -> Broken:
        return Broken(str(self.path), number, reason, whole_characters(detail[:SHOWN]), whole_characters(str(row)[:SHOWN]))


def whole_characters(text: str) -> str:
    """Text that UTF-8 can hold: halves of surrogate pairs are joined, and those without a partner become U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _files_of_path(path: Path) -> tuple[Path, ...]:
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise FileNotFoundError(f"no file or folder {path}: check its spelling, and the folder that you are in")
    files = tuple(file for file in _visible_files(path) if _is_read(file))
    if not files:
        raise ValueError(f"{path} has no text files: put .txt, .md, .jsonl, .json, .tsv, .csv or .parquet files there")
    return files


def skipped_files(folder: Path) -> list[Path]:
    """The files of a folder that are not read, as nothing here knows their format; hidden ones do not count."""
    return [file for file in _visible_files(folder) if not _is_read(file)]


def _visible_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))


def _is_read(file: Path) -> bool:
    return is_path(file.name) or file.suffix == ".arrow"


def _is_hidden(path: Path, folder: Path) -> bool:
    return path.name in _ABOUT_DATA or any(part.startswith(".") for part in path.relative_to(folder).parts)
