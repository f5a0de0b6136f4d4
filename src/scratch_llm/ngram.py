"""A character n-gram language model with interpolated Kneser-Ney smoothing, in NumPy.

Before neural networks this was *the* language model, and it still is how web corpora are filtered: text that a model of
good text finds improbable is probably none (CCNet, Wenzek et al. 2020, with KenLM, Heafield 2011).

The probability of a character after a context of ``n-1`` characters takes a little from every count that was seen (the
discount D) and gives it to the model of the shorter context:

    p(w | context) = max(count(context w) - D, 0) / count(context)  +  weight(context) * p(w | shorter context)
    weight(context) = D * (number of different characters after context) / count(context)

Kneser and Ney's idea (1995): for the shorter contexts do not count how often an n-gram occurs, but after how many
different characters it occurs. 스크 stands mostly in 마스크 and 디스크, so 크 alone is not probable elsewhere, however
frequent it is. D is n1 / (n1 + 2 n2), where n1 and n2 are the numbers of n-grams counted once and twice (Chen and
Goodman 1999, eq. 26).

N-grams are kept as sorted 64-bit hashes with two figures each, log2 p and log2 weight, as in an ARPA file. A lookup is a
binary search over all positions of a text at once: a text of 200 characters takes a fraction of a millisecond. With n
different n-grams the probability that any two share a hash is about n^2 / 2^65: one in a million for six million.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

_MIX = np.uint64(0xD6E8FEB86659FD93)  # odd, so that multiplication mod 2^64 loses nothing
_START, _END = 2, 3  # marks before and after each text (U+0002 and U+0003, which no text has)


class CharacterNGramModel:
    """log2 probabilities of the characters of a text, each given the ``order - 1`` before it.

    Args:
        order: length of the longest n-gram in characters.
        alphabet: how many characters there are that might come, seen or not; the floor under every probability.
    """

    def __init__(self, order: int = 4, alphabet: int = 20_000):
        if order < 1:
            raise ValueError(f"order = {order} must be at least 1; choose for example 4")
        self.order, self.alphabet = order, alphabet
        self.keys: list[np.ndarray] = []  # by length - 1: sorted hashes, uint64
        self.log_probabilities: list[np.ndarray] = []  # log2 p of its last character given the others, float32
        self.log_weights: list[np.ndarray] = []  # log2 weight of it as a context, float32
        self.facts: dict = {}
        self._start_weight = 0.0  # log2 weight of the empty context

    # Training ---------------------------------------------------------------------------------------------------------

    def fit(self, texts: Iterable[str]) -> None:
        """Count the n-grams of the texts. A million characters take about 1 s and 150 MB of memory."""
        codes = np.concatenate([_codes(text) for text in texts] or [_codes("")])
        hashes = _hashes(codes, self.order)
        # an n-gram lies within one text: no start after its first place, no end before its last
        starts_before = np.concatenate([[0], np.cumsum(codes == _START)])
        ends_before = np.concatenate([[0], np.cumsum(codes == _END)])
        tables, longer = [], None
        for n in range(self.order, 0, -1):
            starts = np.arange(max(0, len(codes) - n + 1))
            inside = starts_before[starts + n] == starts_before[starts + 1]
            inside &= ends_before[starts + n - 1] == ends_before[starts]
            places = starts[inside]
            keys, first, counts = np.unique(hashes[n - 1][places], return_index=True, return_counts=True)
            first = places[first]
            if longer is not None and len(longer):
                # after how many different characters: each different longer n-gram counts once for its ending
                continued, number = np.unique(hashes[n - 1][longer + 1], return_counts=True)
                at = np.searchsorted(continued, keys).clip(max=len(continued) - 1)
                found = continued[at] == keys
                # nothing stands before the start: there the plain count stays
                counts = np.where(found, number[at], counts)
            if n == 1:
                counts = np.where(codes[first] == _START, 0, counts)  # a context, but never predicted
            tables.append((keys, first, counts))
            longer = first
        self._smooth(tables[::-1], hashes)

    def _smooth(self, tables, hashes) -> None:
        self.keys, self.log_probabilities, self.log_weights = [], [], []
        lower = 1 / self.alphabet
        for n, (keys, first, counts) in enumerate(tables, 1):
            once, twice = int((counts == 1).sum()), int((counts == 2).sum())
            discount = once / (once + 2 * twice) if once and twice else 0.5
            if n == 1:
                context, size = np.zeros(len(keys), dtype=np.int64), 1
            else:
                context, size = np.searchsorted(self.keys[-1], hashes[n - 2][first]), len(self.keys[-1])
                shorter = np.searchsorted(self.keys[-1], hashes[n - 2][first + 1])
                lower = np.exp2(self.log_probabilities[-1][shorter].astype(np.float64))
            total = np.bincount(context, counts, size)
            with np.errstate(divide="ignore", invalid="ignore"):
                weight = np.where(total > 0, discount * np.bincount(context, counts > 0, size) / total, 1.0)
            probability = np.maximum(counts - discount, 0) / total[context] + weight[context] * lower
            if n == 1:
                self._start_weight = float(np.log2(weight[0]))
            else:
                self.log_weights.append(np.log2(weight).astype(np.float32))
            self.keys.append(keys)
            self.log_probabilities.append(np.log2(probability).astype(np.float32))
        self.log_weights.append(np.zeros(len(self.keys[-1]), dtype=np.float32))  # no n-gram is longer

    # Use --------------------------------------------------------------------------------------------------------------

    def log2_probabilities(self, text: str) -> np.ndarray:
        """log2 p of every character and of the end, shape (len(text) + 1,), float64."""
        codes = _codes(text)
        hashes = _hashes(codes, self.order)
        result = np.full(len(codes), self._start_weight - np.log2(self.alphabet))
        weights = None  # log2 weights of the contexts before places n-1, n, ...
        for n, keys in enumerate(self.keys, 1):
            if not len(keys) or n > len(codes):
                break
            at = keys.searchsorted(hashes[n - 1])  # the n-grams that end at places n-1, n, ...
            found = keys.take(at, mode="clip") == hashes[n - 1]
            shorter = result[n - 1 :]
            if weights is not None:
                shorter += weights
            np.copyto(shorter, self.log_probabilities[n - 1].take(at, mode="clip"), where=found)
            weights = (self.log_weights[n - 1].take(at, mode="clip") * found)[:-1]
        return result[1:]

    def bits_per_character(self, text: str) -> float:
        """Cross-entropy in bits: 2 to this power is the perplexity. The end counts as a character."""
        return float(-self.log2_probabilities(text).mean())

    # On disk ----------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """One safetensors file, which appears whole or not at all."""
        arrays = {}
        for n in range(self.order):
            arrays |= {f"keys.{n}": self.keys[n], f"log_probabilities.{n}": self.log_probabilities[n], f"log_weights.{n}": self.log_weights[n]}
        about = {"order": self.order, "alphabet": self.alphabet, "start_weight": self._start_weight, "facts": self.facts}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        os.close(handle)
        try:
            save_file(arrays, temporary, {"ngram": json.dumps(about, ensure_ascii=False)})
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    @classmethod
    def load(cls, path: str | Path) -> CharacterNGramModel:
        """Raises FileNotFoundError, or ValueError where the file is no such model."""
        try:
            with safe_open(str(path), "numpy") as stream:
                about = json.loads((stream.metadata() or {})["ngram"])
                model = cls(about["order"], about["alphabet"])
                for n in range(model.order):
                    model.keys.append(stream.get_tensor(f"keys.{n}"))
                    model.log_probabilities.append(stream.get_tensor(f"log_probabilities.{n}"))
                    model.log_weights.append(stream.get_tensor(f"log_weights.{n}"))
        except FileNotFoundError:
            raise
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is no n-gram model of ours ({error}): delete it and train it again") from None
        model._start_weight, model.facts = about["start_weight"], about["facts"]
        return model


def _codes(text: str) -> np.ndarray:
    """Code points between two marks, uint64; lone surrogates are codes as any other."""
    inner = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    codes = np.empty(len(inner) + 2, dtype=np.uint64)
    codes[0], codes[-1] = _START, _END
    codes[1:-1] = inner
    return codes


def _hashes(codes: np.ndarray, order: int) -> list[np.ndarray]:
    """For n = 1..order the hash of the n-gram that starts at each place, shapes (len(codes) - n + 1,)."""
    result = [(codes + np.uint64(1)) * _MIX]
    for n in range(2, order + 1):
        mixed = result[-1][:-1]
        result.append(((mixed ^ (mixed >> np.uint64(31))) + codes[n - 1 :] + np.uint64(1)) * _MIX)
    return result
