"""Reading corpora: a catalogue name or a path becomes a lazy stream of documents.

Look-up order for a name: the folder DATA_DIR (default ``data``, then ``../shared/data``), then the local
Hugging Face cache, then the hub; else an error that says how to get it.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import lzma
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from llm_workshop.corpora.catalogue import Corpus, find_corpus
from llm_workshop.corpora.document import Document
from llm_workshop.workspace import workspace

HOLD_OUT_EVERY = 50
#: Paragraphs of a plain text file are joined to documents of about this many characters.
TEXT_DOCUMENT_CHARACTERS = 4000
_OPENERS = {".gz": gzip.open, ".xz": lzma.open}
_TEXT_SUFFIXES = (".txt", ".md")
_ROW_SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".parquet")


def load_documents(name: str) -> Iterator[Document]:
    """Lazily yield the documents (train and valid) of a catalogue name or a path, files in sorted order."""
    if is_path(name):
        yield from _load_path(Path(name))
    else:
        yield from _load_corpus(find_corpus(name))


def is_path(name: str) -> bool:
    """True if a DATA value means a file or folder rather than a catalogue name."""
    stem = Path(name[: -len(Path(name).suffix)]) if Path(name).suffix in _OPENERS else Path(name)
    return "/" in name or "\\" in name or stem.suffix in _TEXT_SUFFIXES + _ROW_SUFFIXES


def check_names(data: Iterable[str]) -> None:
    """ValueError, with the nearest name, for a DATA value that is neither the sample, nor of the catalogue, nor a path."""
    for name in data:
        if name != "sample" and not is_path(name):
            find_corpus(name)


def data_folders() -> list[Path]:
    """The folders searched for local files, in order."""
    if os.environ.get("DATA_DIR"):
        return [Path(os.environ["DATA_DIR"])]
    return [workspace() / "data", workspace() / ".." / "shared" / "data"]


def find_files(patterns: Iterable[str]) -> list[Path]:
    """Files of the first pattern that matches in the first folder that has any."""
    for folder in data_folders():
        for pattern in patterns:
            files = sorted(p for p in folder.glob(pattern) if p.is_file())
            if files:
                return files
    return []


def is_held_out(identifier: str) -> bool:
    """Whether a document belongs to the held-out part: one in 50, by a hash that never changes."""
    digest = hashlib.blake2b(identifier.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % HOLD_OUT_EVERY == 0


def _load_corpus(corpus: Corpus) -> Iterator[Document]:
    files = find_files(corpus.train_files)
    if files:
        yield from _from_files(corpus, files, "train" if corpus.valid_files else None)
        yield from _from_files(corpus, find_files(corpus.valid_files), "valid")
        return
    yield from _from_hub(corpus)


def _from_files(corpus: Corpus, files: Iterable[Path], split: str | None) -> Iterator[Document]:
    for path in files:
        for number, row in enumerate(read_rows(path)):
            yield _to_document(corpus, row, f"{path.name}:{number}", split)


def _from_hub(corpus: Corpus) -> Iterator[Document]:
    source = corpus.hub
    searched = ", ".join(str(folder / corpus.train_files[0]) for folder in data_folders())
    if source is None:
        raise FileNotFoundError(
            f"DATA={corpus.name}: no files at {searched} and it is not on the hub; get it from {corpus.homepage} "
            f"and set DATA_DIR to the folder, or use DATA=sample"
        )
    from datasets import load_dataset

    for split, fixed in ((source.split, "train" if source.valid_split else None), (source.valid_split, "valid")):
        if split is None:
            continue
        try:
            rows = load_dataset(source.repository, source.config, split=split, revision=source.revision)
        except Exception as error:  # the hub client raises many kinds; all mean "not to be had here and now"
            raise FileNotFoundError(
                f"DATA={corpus.name}: no files at {searched}, and the hub's {source.repository} could not be loaded "
                f"({type(error).__name__}); connect to the network once, or set DATA_DIR to a folder with the files, "
                f"or use DATA=sample"
            ) from None
        for number, row in enumerate(rows):
            yield _to_document(corpus, row, f"{source.repository}/{split}:{number}", fixed)


def _to_document(corpus: Corpus, row: dict[str, Any], place: str, split: str | None) -> Document:
    parts = [str(row[f]).strip() for f in corpus.text_fields if row.get(f)]
    if not parts and not any(f in row for f in corpus.text_fields):
        raise ValueError(f"{place} has no field {' or '.join(corpus.text_fields)}; it has {', '.join(row)}")
    identifier = f"{corpus.name}/{row[corpus.id_field] if corpus.id_field and corpus.id_field in row else place}"
    if split is None:
        split = "valid" if is_held_out(identifier) else "train"
    truth = {f: row[f] for f in corpus.truth_fields if row.get(f) is not None}
    return Document(identifier, corpus.kind, "\n\n".join(parts), split, truth=truth)


def _load_path(path: Path) -> Iterator[Document]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and is_path(p.name) and not _hidden(p, path))
        if not files:
            raise ValueError(f"{path} has no text files: put .txt, .md, .jsonl, .tsv, .csv or .parquet files there")
    elif path.is_file():
        files = [path]
    else:
        raise FileNotFoundError(f"no file or folder {path}: check the path given as DATA")
    corpus = Corpus(path.stem, str(path), "yours", str(path), (), ("text", "document", "content", "sentence"))
    for file in files:
        yield from _from_files(corpus, [file], None)


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, packed with gzip or xz or not, without their ends."""
    with _open(path) as stream:
        yield from _decoded_lines(stream, path)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .txt, .md, .jsonl, .json, .tsv, .csv or .parquet file, packed with gzip or xz or not."""
    suffix = path.with_suffix("").suffix if path.suffix in _OPENERS else path.suffix
    if suffix == ".parquet":
        yield from _read_parquet(path)
        return
    with _open(path) as stream:
        lines = _decoded_lines(stream, path)
        if suffix == ".jsonl":
            yield from _read_json_lines(lines, path)
        elif suffix == ".json":
            yield from _read_json(lines, path)
        elif suffix == ".tsv" or path.name.startswith("ratings"):
            yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        elif suffix == ".csv":
            yield from csv.DictReader(lines)
        else:
            yield from ({"text": text} for text in _paragraph_groups(lines))


def _open(path: Path) -> IO[bytes]:
    return _OPENERS.get(path.suffix, open)(path, "rb")


def _decoded_lines(stream: IO[bytes], path: Path) -> Iterator[str]:
    """UTF-8 lines without their ends; binary files and other encodings are named with the place."""
    number = 0
    try:
        for number, raw in enumerate(stream, 1):
            if b"\x00" in raw:
                raise ValueError(f"{path}, line {number} has NUL bytes: it is binary, not text; give a UTF-8 text file")
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                if sum(byte < 32 and byte not in b"\t\r\n\f" for byte in raw) > len(raw) // 50:
                    raise ValueError(f"{path}, line {number} is binary, not text; give a UTF-8 text file") from None
                raise ValueError(
                    f"{path}, line {number}, byte {error.start + 1} is not UTF-8; "
                    f"convert the file first, for example: iconv -f CP949 -t UTF-8 {path.name} > utf8.txt"
                ) from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged after line {number} ({error}): copy or download it again") from None
    if number == 0:
        raise ValueError(f"{path} is empty: give a file with text in it")


def _read_json_lines(lines: Iterable[str], path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON ({error.msg}): one object a line is expected") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number} is not a JSON object: write {{\"text\": \"...\"}}")
        yield row


def _read_json(lines: Iterable[str], path: Path) -> Iterator[dict[str, Any]]:
    try:
        rows = json.loads("\n".join(lines))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error.msg}, line {error.lineno})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} must hold a JSON list of objects")
    yield from rows


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable parquet file ({error}): copy or download it again") from None


def _paragraph_groups(lines: Iterable[str]) -> Iterator[str]:
    """Join paragraphs (blocks between blank lines) to documents of about 4,000 characters."""
    group: list[str] = []
    size = 0
    for line in lines:
        if not line.strip() and size >= TEXT_DOCUMENT_CHARACTERS:
            yield "\n".join(group).strip()
            group, size = [], 0
        group.append(line)
        size += len(line) + 1
    if any(line.strip() for line in group):
        yield "\n".join(group).strip()
