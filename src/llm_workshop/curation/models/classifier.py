"""A text classifier that costs microseconds: hashed character n-grams and (softmax) logistic regression, in NumPy.

Every n-gram of characters is hashed to one of ``buckets`` rows of a weight matrix ("the hashing trick", Weinberger et
al. 2009; fastText does the same with words, Joulin et al. 2016). A text's logits are the sum of its rows over the
square root of their number, plus a bias. No word list, no tokenizer, and the model has a fixed size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from scratch_llm.io import atomic_write

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd (Knuth, TAOCP 6.4)
_MIX = np.uint64(0xD6E8FEB86659FD93)  # a second odd constant, for the rolling polynomial
_FOLDED = np.arange(1 << 16, dtype=np.uint64)  # digits and Latin letters as one each, what lies above 2^16 too
_FOLDED[ord("0") : ord("9") + 1] = ord("0")
_FOLDED[ord("A") : ord("Z") + 1] = _FOLDED[ord("a") : ord("z") + 1] = ord("a")
_TAIL = 100  # of a text longer than ``characters`` this many are from its end


class HashedTextClassifier:
    """Labels with probabilities for a text.

    Args:
        labels: names of the classes.
        buckets: rows of the weight matrix, a power of two.
        orders: lengths of the character n-grams.
        characters: of a longer text only the beginning and the last 100 characters are read, which bounds the time.
    """

    def __init__(self, labels: Sequence[str], buckets: int = 1 << 16, orders: Sequence[int] = (1, 2, 3, 4), characters: int = 600):
        if buckets & (buckets - 1) or not 2 <= buckets <= 1 << 24:
            raise ValueError(f"buckets = {buckets} must be a power of two up to 2^24; choose for example 65536")
        if len(labels) < 2:
            raise ValueError(f"a classifier needs two labels or more, not {list(labels)}")
        self.labels, self.orders, self.characters = tuple(labels), tuple(orders), characters
        self.weights = np.zeros((buckets, len(labels)), dtype=np.float32)
        self.bias = np.zeros(len(labels), dtype=np.float32)
        self.facts: dict = {}  # what it was trained on, and how well it did
        self._shift = np.uint64(64 - (buckets.bit_length() - 1))

    def features(self, text: str) -> np.ndarray:
        """The bucket of each character n-gram of a text, shape (count,); all numbers, and all Latin letters, count as one."""
        if len(text) > self.characters:
            text = text[: self.characters - _TAIL] + " " + text[-_TAIL:]
        codes = np.frombuffer(f" {text} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        codes = _without_runs(_FOLDED.take(codes, mode="clip"))
        hashes, found = np.zeros(len(codes) + 1, dtype=np.uint64), []
        for order in range(1, max(self.orders) + 1):
            if order > len(codes):
                break
            hashes = hashes[:-1] * _MIX + codes[order - 1 :] + np.uint64(1)
            if order in self.orders:
                found.append(((hashes ^ (hashes >> np.uint64(29))) * _MULTIPLIER) >> self._shift)
        return np.concatenate(found).view(np.int64)

    def logits(self, text: str) -> np.ndarray:
        rows = self.features(text)
        total = np.ones(len(rows), dtype=np.float32) @ self.weights.take(rows, 0)  # faster than sum(0)
        return total / np.sqrt(np.float32(len(rows))) + self.bias

    def probabilities(self, text: str) -> dict[str, float]:
        """Label -> probability; they sum to 1."""
        return dict(zip(self.labels, _softmax(self.logits(text)[None])[0].tolist(), strict=True))

    # Training ---------------------------------------------------------------------------------------------------------

    def fit(
        self, texts: Sequence[str], labels: Sequence[str], *, epochs: int = 8, learning_rate: float = 0.5,
        decay: float = 1e-4, batch: int = 64, seed: int = 0, balance: bool = False,
    ) -> None:  # fmt: skip
        """Minimise the mean cross-entropy with Adagrad (Duchi et al. 2011) over batches.

        ``decay`` pulls the weights that a batch touches towards zero; ``balance`` makes every label weigh the same in
        sum, however rare. The same texts and seed give the same weights.
        """
        index = {label: number for number, label in enumerate(self.labels)}
        if unknown := set(labels) - set(index):
            raise ValueError(f"unknown label {min(unknown)!r}: this classifier has {', '.join(self.labels)}")
        targets = np.array([index[label] for label in labels])
        shares = np.bincount(targets, minlength=len(self.labels)) / max(1, len(targets))
        if (shares == 0).any():
            raise ValueError(f"no text with label {self.labels[int(shares.argmin())]!r} to learn from")
        importance = (1 / (len(shares) * shares) if balance else np.ones_like(shares)).astype(np.float32)
        features = [self.features(text) for text in texts]
        self.bias[:] = 0 if balance else np.log(shares)
        squares = np.full_like(self.weights, 1e-2)  # Adagrad's sum of squared gradients
        rng = np.random.default_rng(seed)
        for _ in range(epochs):
            order = rng.permutation(len(features))
            for start in range(0, len(order), batch):
                chosen = order[start : start + batch]
                rows = [features[i] for i in chosen]
                counts = np.array([len(r) for r in rows])
                starts, flat = np.concatenate([[0], counts.cumsum()[:-1]]), np.concatenate(rows)
                scale = (1 / np.sqrt(counts)).astype(np.float32)[:, None]
                wrong = _softmax(np.add.reduceat(self.weights[flat], starts) * scale + self.bias)
                wrong[np.arange(len(chosen)), targets[chosen]] -= 1
                wrong *= importance[targets[chosen]][:, None] / len(chosen)
                used, inverse = np.unique(flat, return_inverse=True)
                spread = np.repeat(wrong * scale, counts, axis=0)
                gradient = np.stack([np.bincount(inverse, spread[:, k], len(used)) for k in range(len(self.labels))], 1)
                gradient = gradient.astype(np.float32) + decay * self.weights[used]
                squares[used] += gradient**2
                self.weights[used] -= learning_rate * gradient / np.sqrt(squares[used])
                self.bias -= 0.1 * learning_rate * wrong.sum(0)

    # On disk ----------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """One safetensors file: arrays, and JSON in its header; nothing in it can run when it is opened."""
        about = {"labels": self.labels, "orders": self.orders, "characters": self.characters, "facts": self.facts}
        data = save({"weights": self.weights, "bias": self.bias}, {"classifier": json.dumps(about, ensure_ascii=False)})
        with atomic_write(path, "wb") as stream:
            stream.write(data)

    @classmethod
    def load(cls, path: str | Path) -> HashedTextClassifier:
        """Raises FileNotFoundError, or ValueError where the file is no classifier."""
        try:
            with safe_open(str(path), "numpy") as stream:
                about = json.loads((stream.metadata() or {})["classifier"])
                weights, bias = stream.get_tensor("weights"), stream.get_tensor("bias")
            model = cls(about["labels"], len(weights), about["orders"], about["characters"])
            if weights.shape != model.weights.shape or bias.shape != model.bias.shape:
                raise ValueError(f"weights {weights.shape}, bias {bias.shape}")
        except FileNotFoundError:
            raise
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is no text classifier of ours ({error}): delete it and train it again") from None
        model.weights, model.bias, model.facts = weights, bias, about["facts"]
        return model


def _without_runs(codes: np.ndarray) -> np.ndarray:
    """12,300 and 2019 become one digit and "!!!!" becomes "!": else a sentence full of figures looks like a price list,
    and joy like an advertisement."""
    digit = codes == ord("0")
    digit[1:-1] |= (codes[1:-1] == ord(",")) & digit[:-2] & digit[2:]
    inside_number = digit[1:] & digit[:-1]
    repeated = (codes[1:] == codes[:-1]) & ((codes[1:] == ord("!")) | (codes[1:] == ord("~")))
    return codes[np.concatenate([[True], ~(inside_number | repeated)])]


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, shape (rows, labels)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
