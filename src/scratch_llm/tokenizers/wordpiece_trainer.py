"""Learning WordPiece's pieces: like BPE, but the pair that is joined is chosen by a score instead of its count.

Let a pair (a, b) stand n times in the corpus, a itself n_a times, b n_b times, and let there be N symbols in all.

``"likelihood"``  n log(N n / (n_a n_b)): by how much joining the pair makes the corpus likelier under a model that draws
    symbols independently.  This is what Schuster & Nakajima (2012, section 4.1) describe.
``"ratio"``       n / (n_a n_b): the same without the factor n, as textbooks give it.  It prefers two rare letters that
    only ever meet each other to a common ending.
``"frequency"``   n: BPE's rule.  Hugging Face's WordPieceTrainer uses it.

Google never published its trainer; the scores here follow the descriptions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np

SCORES = ("likelihood", "ratio", "frequency")

Pair = tuple[int, int]


def learn_pieces(
    word_counts: Mapping[str, int],
    n_pieces: int,
    *,
    prefix: str = "##",
    score: str = "likelihood",
    alphabet_size: int | None = None,
    min_frequency: int = 2,
) -> list[str]:
    """The alphabet, then joined pieces in order, at most ``n_pieces`` in all.

    Of pairs with equal scores the one that arose first is joined.

    Raises:
        ValueError: an unknown ``score``; no room for the alphabet.
    """
    if score not in SCORES:
        raise ValueError(f"score {score!r} is unknown: use one of {', '.join(SCORES)}")
    letters = Counter()
    for word, count in word_counts.items():
        for character in word:
            letters[character] += count
    # Every letter may become two tokens, "a" and "##a".
    room = alphabet_size if alphabet_size is not None else max(1, n_pieces // 4)
    kept = {character for character, _ in letters.most_common(room)}
    words = {word: count for word, count in word_counts.items() if kept.issuperset(word)}
    corpus = _Corpus(words, prefix, max(1, min_frequency))
    if len(corpus.names) > n_pieces:
        raise ValueError(
            f"{len(corpus.names)} letters (at the beginning and inside of words) do not fit into {n_pieces} pieces: "
            "raise vocab_size or lower alphabet_size"
        )
    while len(corpus.names) < n_pieces and (best := corpus.best_pair(score)) is not None:
        corpus.join(best)
    return corpus.names


class _Corpus:
    """The different words as lists of symbols, and where every pair of neighbours stands."""

    def __init__(self, word_counts: Mapping[str, int], prefix: str, min_frequency: int):
        self.prefix = prefix
        self.min_frequency = min_frequency
        self.names: list[str] = []
        self.ids: dict[str, int] = {}
        self.weights = list(word_counts.values())
        # The most frequent letters first, then by the letter itself: the order of ids does not depend on that of texts.
        spelled = {word: [word[0], *(prefix + c for c in word[1:])] for word in word_counts}
        alphabet = Counter()
        for word, symbols in spelled.items():
            for symbol in symbols:
                alphabet[symbol] += word_counts[word]
        for symbol in sorted(alphabet, key=lambda symbol: (-alphabet[symbol], symbol)):
            self._id_of(symbol)
        self.words = [[self.ids[symbol] for symbol in symbols] for symbols in spelled.values()]
        self.symbol_counts = np.zeros(max(1, len(self.names)), dtype=np.float64)
        for symbol, count in alphabet.items():
            self.symbol_counts[self.ids[symbol]] = count
        self.n_symbols = float(sum(alphabet.values()))
        # Pair k is (left[k], right[k]), stands counts[k] times, in the words places[k].
        self.numbers: dict[Pair, int] = {}
        self.left, self.right = np.zeros(1024, dtype=np.int64), np.zeros(1024, dtype=np.int64)
        self.counts = np.zeros(1024, dtype=np.float64)
        self.places: defaultdict[int, set[int]] = defaultdict(set)
        for number, word in enumerate(self.words):
            self._note(pairwise(word), number, self.weights[number])

    def _id_of(self, name: str) -> int:
        if name not in self.ids:
            self.ids[name] = len(self.names)
            self.names.append(name)
        return self.ids[name]

    def _note(self, pairs: Iterable[Pair], word: int, weight: int) -> None:
        for pair in pairs:
            if (k := self.numbers.get(pair)) is None:
                k = self.numbers[pair] = len(self.numbers)
                if k == len(self.counts):
                    self.left, self.right, self.counts = (np.resize(a, 2 * k) for a in (self.left, self.right, self.counts))
                    self.counts[k:] = 0
                self.left[k], self.right[k] = pair
            self.counts[k] += weight
            self.places[k].add(word)

    def best_pair(self, score: str) -> int | None:
        """The number of the pair with the greatest score; ``None`` where no pair is frequent enough."""
        counts = self.counts[: len(self.numbers)]
        if not len(counts) or counts.max() < self.min_frequency:
            return None
        if score == "frequency":
            return int(counts.argmax())
        floor = self.min_frequency
        if score == "likelihood":
            # n log(N n / (n_a n_b)) is at most n log(N), so rare pairs need no look where a common one scores well.
            common = self._scores(score, np.flatnonzero(counts >= max(floor, counts.max() / 8)))
            floor = max(floor, common.max() / math.log(max(self.n_symbols, 3)))
        candidates = np.flatnonzero(counts >= floor)
        return int(candidates[self._scores(score, candidates).argmax()])

    def _scores(self, score: str, pairs: np.ndarray) -> np.ndarray:
        n = self.counts[pairs]
        # A division of exact whole numbers: equal scores are equal to the last bit.
        ratio = n / (self.symbol_counts[self.left[pairs]] * self.symbol_counts[self.right[pairs]])
        return ratio if score == "ratio" else n * np.log(ratio * self.n_symbols)

    def join(self, pair: int) -> None:
        """Make the pair one symbol wherever it stands."""
        left, right = int(self.left[pair]), int(self.right[pair])
        # Another pair may have spelled the same piece before ("##ab" + "##c" and "##a" + "##bc").
        new = self._id_of(self.names[left] + self.names[right].removeprefix(self.prefix))
        if new == len(self.symbol_counts):
            self.symbol_counts = np.append(self.symbol_counts, 0.0)
        for number in sorted(self.places.pop(pair)):
            word, weight = self.words[number], self.weights[number]
            self._forget(word, number, weight)
            joined = _joined(word, left, right, new)
            n_joined = (len(word) - len(joined)) * weight
            self.symbol_counts[left] -= n_joined
            self.symbol_counts[right] -= n_joined
            self.symbol_counts[new] += n_joined
            self.n_symbols -= n_joined
            self.words[number] = joined
            self._note(pairwise(joined), number, weight)
        self.counts[pair] = 0

    def _forget(self, word: list[int], number: int, weight: int) -> None:
        for pair in pairwise(word):
            k = self.numbers[pair]
            self.counts[k] -= weight
            self.places[k].discard(number)


def _joined(word: list[int], left: int, right: int, new: int) -> list[int]:
    """The word with every (left, right) made ``new``, from left to right."""
    joined: list[int] = []
    place = 0
    while place < len(word):
        if word[place] == left and place + 1 < len(word) and word[place + 1] == right:
            joined.append(new)
            place += 2
        else:
            joined.append(word[place])
            place += 1
    return joined
