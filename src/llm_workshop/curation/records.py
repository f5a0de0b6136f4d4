"""Records of one file, by its format: JSON lines, JSON, TSV, CSV, plain text, Parquet; what is broken is told, with its place."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llm_workshop.corpora.loaders import TEXT_DOCUMENT_CHARACTERS
from llm_workshop.curation.lines import EMPTY_FILE, MAX_LINE, SHOWN, Broken, LineReader

#: A quoted field may go over this many lines; beyond, its quotation mark was never meant to open one.
CSV_RECORD_LINES = 1_000
_PACKED = (".gz", ".xz")
_BETWEEN_OBJECTS = re.compile(r"[\s,\]]*")
_OPENING = re.compile(r'\s*(?:\{\s*"data"\s*:\s*)?\[')
_NEXT_OBJECT = re.compile(r"[,\n]\s*(?=\{)")

Record = tuple[int, dict[str, Any]]


def open_records(path: Path) -> tuple[Iterable[Record | Broken], Callable[[], int]]:
    """``(line or row number, record)`` and ``Broken`` of a file, and how far it has been read in bytes."""
    suffix = path.with_suffix("").suffix if path.suffix in _PACKED else path.suffix
    if suffix in (".parquet", ".arrow"):
        done = [0]
        return _table_records(path, done), lambda: done[0]
    lines = LineReader(path)
    if suffix == ".jsonl":
        records = _json_line_records(lines)
    elif suffix == ".json":
        records = _json_records(lines)
    elif suffix == ".tsv" or path.name.startswith("ratings"):
        records = _tsv_records(lines)
    elif suffix == ".csv":
        records = _csv_records(lines)
    else:
        records = _text_records(lines)
    return records, lines.position


def _json_line_records(lines: LineReader) -> Iterator[Record | Broken]:
    for item in lines:
        if isinstance(item, Broken):
            yield item
            continue
        number, line = item
        if line.strip():
            yield _json_record(lines, number, line)


def _json_record(lines: LineReader, number: int, line: str) -> Record | Broken:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return lines.broken(number, "not JSON", str(error)[:SHOWN], line)
    return (number, row) if isinstance(row, dict) else lines.broken(number, "no JSON object", type(row).__name__, line)


def _json_records(lines: LineReader) -> Iterator[Record | Broken]:
    """Objects of a list, of ``{"data": [...]}``, or one after the other, numbered from 1; however large the file is."""
    text = _Ahead(lines)
    if not text.extend(1):
        yield from text.broken or [lines.broken(0, EMPTY_FILE)]
        return
    opening = _OPENING.match(text.buffer)
    place, number, decoder = opening.end() if opening else 0, 0, json.JSONDecoder()
    while True:
        place = _BETWEEN_OBJECTS.match(text.buffer, place).end()
        try:
            row, end = decoder.raw_decode(text.buffer, place)
        except (ValueError, RecursionError) as error:
            left = len(text.buffer) - place
            # It may go on in what has not been read yet; twice as much each time, so that none is parsed too often.
            if left < MAX_LINE and text.extend(2 * left + 1, place):
                place = 0
                continue
            if not text.buffer[place:].strip(" \t\r\n}"):
                break
            number += 1
            yield lines.broken(number, "not JSON", str(error)[:SHOWN], text.buffer[place : place + SHOWN])
            following = _NEXT_OBJECT.search(text.buffer, place + 1)
            place = following.end() if following else len(text.buffer)
            continue
        number, place = number + 1, end
        yield (number, row) if isinstance(row, dict) else lines.broken(number, "no JSON object", type(row).__name__, str(row))
    yield from text.broken


class _Ahead:
    """What has been read of a text and not yet used."""

    def __init__(self, lines: LineReader):
        self.buffer = ""
        self.broken: list[Broken] = []
        self._pieces = lines.pieces()

    def extend(self, wanted: int, used: int = 0) -> bool:
        """Forget the first ``used`` characters and read on to at least ``wanted``; False if there is no more."""
        left = len(self.buffer) - used
        parts, size = [self.buffer[used:]], left
        for piece in self._pieces:
            if isinstance(piece, Broken):
                self.broken.append(piece)
                continue
            parts.append(piece)
            size += len(piece)
            if size >= wanted:
                break
        if size > left:
            self.buffer = "".join(parts)
        return size > left


def _tsv_records(lines: LineReader) -> Iterator[Record | Broken]:
    header: list[str] | None = None
    for item in lines:
        if isinstance(item, Broken):
            yield item
            continue
        number, line = item
        cells = line.split("\t")
        if header is None:
            header = cells
        elif line.strip():
            yield _row(lines, number, header, cells, line)


def _row(lines: LineReader, number: int, header: list[str], cells: list[str], start: str) -> Record | Broken:
    if len(cells) != len(header):
        return lines.broken(number, "columns", f"{len(cells)} instead of {len(header)}", start)
    return number, dict(zip(header, cells))


def _csv_records(lines: LineReader) -> Iterator[Record | Broken]:
    """Rows of a CSV file; a quotation mark that is never closed spoils its own line, not the rest of the file."""
    header: list[str] | None = None
    source, again = iter(lines), deque()

    def take() -> tuple[int, str] | Broken | None:
        return again.popleft() if again else next(source, None)

    while (item := take()) is not None:
        if isinstance(item, Broken):
            yield item
            continue
        record, marks, number = [item], item[1].count('"'), item[0]
        while marks % 2 and len(record) < CSV_RECORD_LINES and (item := take()) is not None:
            if isinstance(item, Broken):
                yield item
                continue
            record.append(item)
            marks += item[1].count('"')
        cells = None if marks % 2 else _csv_cells([line for _, line in record])
        if cells is None or (len(record) > 1 and header is not None and len(cells) != len(header)):
            again.extendleft(reversed(record[1:]))
            yield lines.broken(number, "quotation mark not closed" if marks % 2 else "no CSV", "", record[0][1])
        elif header is None:
            header = cells
        elif cells:
            yield _row(lines, number, header, cells, record[0][1])


def _csv_cells(record: list[str]) -> list[str] | None:
    """The cells of a record's lines, None if they are none."""
    try:
        return next(csv.reader([line + "\n" for line in record[:-1]] + record[-1:], strict=True), [])
    except csv.Error:
        return None


def _text_records(lines: LineReader) -> Iterator[Record | Broken]:
    """Paragraphs of plain text, joined to documents of about TEXT_DOCUMENT_CHARACTERS."""
    group: list[str] = []
    first, size = 1, 0
    for item in lines:
        if isinstance(item, Broken):
            yield item
            continue
        number, line = item
        if (not line.strip() and size >= TEXT_DOCUMENT_CHARACTERS) or size >= MAX_LINE // 2:
            yield first, {"text": "\n".join(group).strip()}
            group, size, first = [], 0, number
        group.append(line)
        size += len(line) + 1
    if any(line.strip() for line in group):
        yield first, {"text": "\n".join(group).strip()}


def _table_records(path: Path, done: list[int]) -> Iterator[Record | Broken]:
    """Rows of a Parquet file, or of an Arrow file as ``datasets`` saves it, a batch at a time."""
    import pyarrow

    number, size = 0, path.stat().st_size
    try:
        for batch, share in _parquet_batches(path) if path.suffix == ".parquet" else _arrow_batches(path):
            for row in batch.to_pylist():
                number += 1
                yield number, row
            done[0] = int(share * size)
    except (pyarrow.ArrowException, OSError) as error:
        yield Broken(str(path), number + 1, "damaged", " ".join(str(error).split())[:SHOWN])


def _parquet_batches(path: Path) -> Iterator[tuple[Any, float]]:
    import pyarrow.parquet

    file, rows = pyarrow.parquet.ParquetFile(path), 0
    for batch in file.iter_batches(batch_size=256):
        rows += batch.num_rows
        yield batch, rows / max(1, file.metadata.num_rows)


def _arrow_batches(path: Path) -> Iterator[tuple[Any, float]]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
        for batch in stream:
            for start in range(0, batch.num_rows, 256):
                yield batch.slice(start, 256), source.tell() / max(1, source.size())
