"""Lines of any text file in bounded memory: packed or not, in any of the usual encodings, damaged or not."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from llm_workshop.curation.encodings import (
    SAMPLE_BYTES,
    decode_line,
    detect_encoding,
    encoding_of_bytes,
    is_binary,
)

#: A line longer than this (bytes; characters in UTF-16) is cut off and set aside: no document is that long.
MAX_LINE = 4 * 1024 * 1024
#: Bytes read at a time from a file that does not go by lines.
PIECE = 262_144
#: The reason of a file in which there is nothing: it is told, and nobody's fault.
EMPTY_FILE = "empty file"
#: Characters of a broken record that the quarantine shows.
SHOWN = 200
_OPENERS = {".gz": gzip.open, ".xz": lzma.open}
_DAMAGE = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read: where, why (one word that is counted), the details, and how it begins."""

    file: str
    line: int
    reason: str
    detail: str = ""
    start: str = ""

    def as_values(self) -> dict[str, str | int]:
        return {name: getattr(self, name) for name in self.__slots__}


class LineReader:
    """Iterates over ``(number, text)`` of a file; what cannot be read is yielded as ``Broken`` in between.

    ``position()`` is how many bytes of the file on disk have been read, for progress.
    """

    def __init__(self, path: Path):
        self.path = path
        self._raw: IO[bytes] | None = None

    def position(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self._raw.tell() if self._raw else 0
        return 0

    def __iter__(self) -> Iterator[tuple[int, str] | Broken]:
        number = 0
        try:
            with open(self.path, "rb", buffering=SAMPLE_BYTES) as self._raw:
                opener = _OPENERS.get(self.path.suffix)
                stream = io.BufferedReader(opener(self._raw, "rb"), SAMPLE_BYTES) if opener else self._raw
                for number, line in self._lines(stream):
                    yield line if isinstance(line, Broken) else (number, line)
        except _DAMAGE as error:
            yield self.broken(number + 1, "damaged", f"{type(error).__name__}: {error}")
        except OSError as error:
            yield self.broken(number + 1, "unreadable", error.strerror or str(error))
        else:
            if number == 0:
                yield self.broken(0, EMPTY_FILE)

    def pieces(self) -> Iterator[str | Broken]:
        """The whole text in pieces of at most PIECE bytes, for formats that do not go by lines; bad bytes become U+FFFD."""
        try:
            with open(self.path, "rb", buffering=SAMPLE_BYTES) as self._raw:
                opener = _OPENERS.get(self.path.suffix)
                stream = io.BufferedReader(opener(self._raw, "rb"), SAMPLE_BYTES) if opener else self._raw
                beginning = _beginning(stream)
                encoding = detect_encoding(beginning)
                encoding = encoding_of_bytes(beginning) if encoding == "bytes" else encoding
                decoder = codecs.getincrementaldecoder(encoding)("replace")
                while piece := stream.read1(PIECE):
                    yield decoder.decode(piece)
        except _DAMAGE as error:
            yield self.broken(0, "damaged", f"{type(error).__name__}: {error}")
        except OSError as error:
            yield self.broken(0, "unreadable", error.strerror or str(error))

    def broken(self, line: int, reason: str, detail: str = "", start: str = "") -> Broken:
        return Broken(str(self.path), line, reason, detail, start[:SHOWN])

    def _lines(self, stream: io.BufferedReader) -> Iterator[tuple[int, str | Broken]]:
        beginning = _beginning(stream)
        encoding = detect_encoding(beginning)
        if encoding == "bytes":
            if is_binary(beginning):  # one record, not one for every line end that chance has put there
                yield 1, self.broken(1, "binary file", "not text in any encoding known here")
                return
            for number, line, whole in _bounded(stream, b"\n"):
                yield number, self._decode(number, line, whole)
            return
        wide = io.TextIOWrapper(stream, encoding, errors="replace", newline=None)
        for number, line, whole in _bounded(wide, "\n"):
            if not whole:
                yield number, self.broken(number, "too long", f"more than {MAX_LINE:,} characters", line)
            elif "\ufffd" in line:
                yield number, self.broken(number, "undecodable", f"not {encoding}", line)
            else:
                yield number, line.rstrip("\r\n")

    def _decode(self, number: int, line: bytes, whole: bool) -> str | Broken:
        if not whole:
            return self.broken(number, "too long", f"more than {MAX_LINE:,} bytes", line[:SHOWN].decode("utf-8", "replace"))
        try:
            text = decode_line(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
        except ValueError as error:
            reason = "binary" if str(error).startswith("binary") else "undecodable"
            return self.broken(number, reason, str(error), line[: 2 * SHOWN].decode("utf-8", "replace"))
        return text.rstrip("\r\n")


def _beginning(stream: io.BufferedReader) -> bytes:
    """The first bytes, left in the stream; those before a damaged place if there is one."""
    try:
        return stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]
    except _DAMAGE:
        return b""


def _bounded(stream: IO, end: bytes | str) -> Iterator[tuple[int, bytes | str, bool]]:
    """``(number, line, True)``, or ``(number, its beginning, False)`` where a line is longer than MAX_LINE."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        whole = len(line) <= MAX_LINE or line.endswith(end)
        if not whole:
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(end):
                pass
            line = line[:SHOWN]
        yield number, line, whole
