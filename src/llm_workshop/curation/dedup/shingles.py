"""Shingles of many texts at once, as 64-bit hashes, in whole-array NumPy.

A *shingle* is a run of ``size`` neighbouring characters or words; a text becomes the set of its shingles, and two
texts are as alike as their sets are (Broder 1997, "On the resemblance and containment of documents").

A Python loop over shingles would take a microsecond each.  Here a batch of texts is one array of code points, and the
window of five characters that starts at position i has the polynomial hash

    c[i] B^4 + c[i+1] B^3 + c[i+2] B^2 + c[i+3] B + c[i+4]      (mod 2^64)

which is four multiplications and additions of the *whole* array with itself, shifted by one each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

#: Odd, so that multiplication by them can be undone modulo 2^64; otherwise arbitrary.
_BASE = 0x9E3779B97F4A7C15
_WORD_BASE = 0xD1342543DE82EF95
_FILLER = "\0"


class Shingles(NamedTuple):
    """``hashes[bounds[d] : bounds[d + 1]]`` are the shingles of text ``d``, in order, repetitions included."""

    hashes: np.ndarray  # uint64
    bounds: np.ndarray  # int64, one more than there are texts

    def unique(self, text: int) -> np.ndarray:
        """The set of one text: sorted, without repetitions."""
        return np.unique(self.hashes[self.bounds[text] : self.bounds[text + 1]])


def shingles(texts: Sequence[str], unit: str = "char", size: int = 5) -> Shingles:
    """Shingles of each text.  ``unit`` "char" or "word" (between white space).

    A text shorter than ``size`` has one shingle, the whole of it; an empty one has none.  White space is taken as it
    stands for characters: fold the texts first (``exact.fold``).
    """
    if size < 1:
        raise ValueError(f"shingles of {size} units: choose 1 or more")
    if unit == "char":
        return _character_shingles(texts, size)
    if unit == "word":
        return _word_shingles(texts, size)
    raise ValueError(f"shingles of '{unit}': choose char or word")


def code_points(text: str) -> np.ndarray:
    """uint32 code points; a lone surrogate counts as itself."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def mix(values: np.ndarray) -> np.ndarray:
    """Spread every input bit over all 64 output bits (a bijection: the end of MurmurHash3 by A. Appleby)."""
    values = values ^ (values >> np.uint64(33))
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    values ^= values >> np.uint64(33)
    return values


def hash_texts(texts: Sequence[str]) -> np.ndarray:
    """A 64-bit hash of each whole text (a line, a word).  For text as it comes: not against an adversary."""
    ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)
    codes = code_points("\n".join(texts) + "\n") if texts else np.zeros(0, np.uint32)
    return _hash_spans(codes, np.concatenate(([0], ends[:-1])) if len(ends) else ends)


def _character_shingles(texts: Sequence[str], size: int) -> Shingles:
    padded = [text.ljust(size, _FILLER) if text else "" for text in texts]
    counts = np.array([max(0, len(text) - size + 1) for text in padded], dtype=np.int64)
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    hashes = _windows(code_points("".join(padded)), lengths, size, _BASE)
    return Shingles(hashes, _bounds(counts))


def _word_shingles(texts: Sequence[str], size: int) -> Shingles:
    rows = [text.split() for text in texts]
    words = [row + [_FILLER] * (size - len(row)) if row else row for row in rows]
    lengths = np.array([len(row) for row in words], dtype=np.int64)
    joined = "".join(" ".join(row) + " " for row in words if row)
    codes = code_points(joined)
    spaces = np.flatnonzero(codes == 32)
    starts = np.concatenate(([0], spaces[:-1] + 1)) if len(spaces) else spaces
    hashes = _windows(_hash_spans(codes, starts), lengths, size, _WORD_BASE)
    return Shingles(hashes, _bounds(np.maximum(0, lengths - size + 1)))


def _bounds(counts: np.ndarray) -> np.ndarray:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))


def _windows(units: np.ndarray, lengths: np.ndarray, size: int, base: int) -> np.ndarray:
    """Hash of every window of ``size`` units that lies inside one text, in order."""
    places = len(units) - size + 1
    if places <= 0:
        return np.zeros(0, np.uint64)
    hashes = units[:places].astype(np.uint64)
    for shift in range(1, size):
        hashes *= np.uint64(base)
        hashes += units[shift : shift + places]
    # The last size - 1 starts of every text reach into the next one.
    inside = np.ones(places, dtype=bool)
    over = (np.cumsum(lengths)[:, None] - np.arange(1, size)).ravel()
    inside[over[(over >= 0) & (over < places)]] = False
    return mix(hashes[inside])


def _hash_spans(codes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Hash of codes[starts[k] : starts[k + 1]] for all k: sums of c[i] B^i, divided by B^start."""
    if not len(starts):
        return np.zeros(0, np.uint64)
    powers, inverses = _powers(1 << max(10, (len(codes) - 1).bit_length()))
    sums = np.add.reduceat(codes * powers[: len(codes)], starts)
    return mix(sums * inverses[starts])


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """B^0 ... B^(count-1) modulo 2^64, and their inverses."""
    tables = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        table = np.full(count, base, dtype=np.uint64)
        table[0] = 1
        tables.append(np.multiply.accumulate(table))
    return tables[0], tables[1]
