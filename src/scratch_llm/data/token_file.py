"""A text as token ids on disk, opened without reading it.

Three files lie side by side; the JSON is written last, so a file that has one is complete:

    train.bin    the ids, little-endian uint16 (vocabulary up to 65,536) or uint32
    train.ends   int64 per document: the position one past its last token
    train.json   n_tokens, n_bytes, n_documents, vocab_size, dtype, sha256 of train.bin
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from scratch_llm.io import atomic_write, sha256_of

_DTYPES = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_ENDS_DTYPE = np.dtype("<i8")


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds every id below ``vocab_size``."""
    if not 1 <= vocab_size <= 2**32:
        raise ValueError(f"vocab_size {vocab_size} is outside 1 to 2**32; give the tokenizer's vocab_size")
    return _DTYPES["uint16" if vocab_size <= 2**16 else "uint32"]


class TokenFileWriter:
    """Writes a token file document by document, in constant memory.

    >>> with TokenFileWriter("tokens/train.bin", vocab_size=8192) as writer:
    ...     for document in documents:
    ...         text = document.text
    ...         writer.append(tokenizer.encode(text) + [eos_id], n_bytes=len(text.encode()))

    Nothing appears under the final names until ``close()``; leaving the ``with`` block by an exception
    (a full disk, Ctrl-C) removes the temporary files and leaves an older token file as it was.
    """

    def __init__(self, path: str | Path, vocab_size: int):
        self.path = _bin_path(path)
        self.vocab_size = int(vocab_size)
        self.dtype = token_dtype(vocab_size)
        self.n_tokens = self.n_bytes = self.n_documents = 0
        self._digest = hashlib.sha256()
        self._closed = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = [self.path.with_name(f".{self.path.stem}.{os.getpid()}{suffix}.partial")
                         for suffix in (".bin", ".ends")]
        # Many appends are short documents: a buffer of 1 MiB turns them into few writes.
        self._bin = open(self._partial[0], "wb", buffering=1 << 20)
        self._ends = open(self._partial[1], "wb", buffering=1 << 16)

    def append(self, ids: Sequence[int] | np.ndarray, n_bytes: int = 0) -> None:
        """Add one document: its ids (with the closing <|endoftext|>) and its text's UTF-8 length."""
        array = np.asarray(ids)
        if array.size == 0:
            return
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(f"token ids must be a flat list of integers, not {array.dtype} of shape {array.shape}")
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= self.vocab_size:
            bad = low if low < 0 else high
            raise ValueError(f"token id {bad} is outside 0 to {self.vocab_size - 1}; "
                             f"write the file with the vocab_size of the tokenizer that made the ids")
        data = array.astype(self.dtype).tobytes()
        self._digest.update(data)
        self._bin.write(data)
        self.n_tokens += array.size
        self.n_bytes += int(n_bytes)
        self.n_documents += 1
        self._ends.write(np.array(self.n_tokens, dtype=_ENDS_DTYPE).tobytes())

    def extend(self, documents: Iterable[Sequence[int]]) -> None:
        """Append every document of an iterable of id lists."""
        for ids in documents:
            self.append(ids)

    def close(self) -> None:
        """Flush, rename into place, and write the JSON that declares the file complete."""
        if self._closed:
            return
        if self.n_tokens == 0:
            self.discard()
            raise ValueError(f"{self.path} would be empty; give the writer at least one document with text in it")
        try:
            for stream in (self._bin, self._ends):
                stream.flush()
                os.fsync(stream.fileno())
                stream.close()
            # From here to the JSON the pair may be of two generations: without a JSON nobody opens it.
            _side(self.path).unlink(missing_ok=True)
            os.replace(self._partial[0], self.path)
            os.replace(self._partial[1], self.path.with_suffix(".ends"))
            with atomic_write(_side(self.path)) as stream:
                json.dump({"n_tokens": self.n_tokens, "n_bytes": self.n_bytes, "n_documents": self.n_documents,
                           "vocab_size": self.vocab_size, "dtype": self.dtype.name,
                           "sha256": self._digest.hexdigest()}, stream, indent=2)
            self._closed = True
        finally:
            if not self._closed:
                self.discard()

    def discard(self) -> None:
        """Throw away what was written so far."""
        self._closed = True
        for stream, partial in zip((self._bin, self._ends), self._partial):
            with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
                stream.close()
            partial.unlink(missing_ok=True)

    def __enter__(self) -> TokenFileWriter:
        return self

    def __exit__(self, error_type, *_):
        self.close() if error_type is None else self.discard()


class TokenFile:
    """A token file, memory-mapped: opening a 10 GB file takes no time and no memory.

    ``tokens`` is an array (n_tokens,) of uint16 or uint32, ``document_ends`` (n_documents,) of int64.
    A missing file raises FileNotFoundError, a corrupt or half-written one ValueError.
    """

    def __init__(self, path: str | Path):
        self.path = _bin_path(path)
        side = _read_side(self.path)
        self.n_tokens: int = side["n_tokens"]
        self.n_bytes: int = side["n_bytes"]
        self.n_documents: int = side["n_documents"]
        self.vocab_size: int = side["vocab_size"]
        self.sha256: str = side["sha256"]
        self.tokens = self._map(self.path, _DTYPES[side["dtype"]], self.n_tokens)
        self.document_ends = self._map(self.path.with_suffix(".ends"), _ENDS_DTYPE, self.n_documents)
        if self.document_ends[-1] != self.n_tokens:
            raise ValueError(f"{self.path} is corrupt: its last document ends at {self.document_ends[-1]}, "
                             f"not at {self.n_tokens}; {_CURE}")

    def _map(self, path: Path, dtype: np.dtype, length: int) -> np.ndarray:
        size = path.stat().st_size if path.exists() else 0
        if size != length * dtype.itemsize:
            raise ValueError(f"{path} is corrupt or half-written: {size} bytes, but {_side(self.path).name} "
                             f"says {length * dtype.itemsize}; {_CURE}")
        return np.memmap(path, dtype=dtype, mode="r", shape=(length,))

    def __len__(self) -> int:
        return self.n_tokens

    def verify(self) -> None:
        """Read the whole file and compare its digest; raises ValueError where a bit has changed."""
        if sha256_of(self.path) != self.sha256:
            raise ValueError(f"{self.path} is corrupt: its SHA-256 differs from {_side(self.path).name}; {_CURE}")


_CURE = "delete it and tokenise the corpus again"
_INTEGERS = ("n_tokens", "n_bytes", "n_documents", "vocab_size")


def _bin_path(path: str | Path) -> Path:
    """``tokens/train`` and ``tokens/train.bin`` name the same file."""
    path = Path(path)
    return path if path.suffix == ".bin" else path.with_name(path.name + ".bin")


def _side(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_side(path: Path) -> dict:
    """The JSON beside a token file, checked field by field."""
    side_path = _side(path)
    if not path.exists() and not side_path.exists():
        raise FileNotFoundError(f"no token file at {path}; tokenise a corpus first")
    if not side_path.exists():
        raise ValueError(f"{path} is half-written (no {side_path.name} beside it); {_CURE}")
    try:
        side = json.loads(side_path.read_text(encoding="utf-8"))
        sound = (all(isinstance(side[key], int) and side[key] >= 0 for key in _INTEGERS)
                 and side["dtype"] in _DTYPES and side["n_documents"] > 0 and isinstance(side["sha256"], str))
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{side_path} is corrupt; {_CURE}")
    return side
